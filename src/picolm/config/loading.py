"""From a preset, a YAML file, overrides or plain Python to one `Config`, with errors a person can act on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from picolm.config.schema import Config
from picolm.config.yaml12 import parse_yaml
from picolm.errors import PicoLMError, nearest
from picolm.runs.digest import sha256_of_json

Overrides = Iterable[str] | Mapping[str, object]


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    folder = resources.files("picolm.config") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_config(
    target: str | Path | None = None, overrides: Overrides = (), interventions: Iterable[str] = ()
) -> Config:
    """Build the configuration of a run.

    Args:
        target: a preset's name, the path of a YAML file (which may inherit by `preset:`), or None for the defaults.
        overrides: `"training.steps=10"` as on the command line, or a mapping `{"training.steps": 10}`.
        interventions: as `--with` on the command line, `"freeze until=100"`: added to the list, or, where the list has
            one of that `use`, set over its settings.

    Raises:
        PicoLMError: unknown preset, file, key, wrong type or range, or parts that contradict each other.
    """
    layers = [] if target is None else _layers_of(str(target), seen=())
    values: dict[str, Any] = {}
    for layer in layers:
        values = _merge(values, layer)
    return changed(values, overrides, interventions)


def changed(values: Mapping[str, Any], overrides: Overrides, interventions: Iterable[str] = ()) -> Config:
    """Build a configuration from plain data and changes of them, which are as in `load_config`."""
    for key, value in _parse_overrides(overrides):
        values = _merge(values, _nest(key, value))
    for use in interventions:
        values = {**values, "interventions": _with_use(values.get("interventions", []), use)}
    return build_config(values)


def build_config(values: Mapping[str, Any]) -> Config:
    """Validate plain data; the first thing wrong becomes one sentence (`PicoLMError`)."""
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        raise PicoLMError(explain(error)) from None


def config_hash(config: Config) -> str:
    """SHA-256 of the whole configuration, whatever it was written as."""
    return sha256_of_json(config.model_dump(mode="json"))


def valid_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Every key of the schema, dotted: `training.steps`. Keys of all variants of a section are listed.

    Where sections have names of the user's own, the key says `NAME`: `capture.probes.NAME.sequences`.
    """
    keys: list[str] = []
    for name, field in section.model_fields.items():
        variants = _sections_in(field.annotation)
        keys += [f"{prefix}{name}"]
        own = ".NAME" if getattr(field.annotation, "__origin__", None) is dict else ""
        for variant in variants:
            keys += [key for key in valid_keys(variant, f"{prefix}{name}{own}.") if key not in keys]
    return keys


def kinds_of(section: str) -> list[str]:
    """The values of a section's `kind`; none where the section has one kind only."""
    field = Config.model_fields.get(section)
    variants = [] if field is None else _sections_in(field.annotation)
    return [variant.model_fields["kind"].default for variant in variants if "kind" in variant.model_fields]


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    arguments: tuple[Any, ...] = getattr(annotation, "__args__", ())
    return [section for argument in arguments for section in _sections_in(argument)]


def _layers_of(target: str, seen: tuple[str, ...]) -> list[dict[str, Any]]:
    """What a target says, the layer it inherits from first."""
    if target in seen:
        raise PicoLMError(f"preset '{target}' inherits from itself: {' -> '.join((*seen, target))}")
    text, origin, folder = _read_target(target)
    values = parse_yaml(text, origin=origin)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise PicoLMError(f"{origin} must hold sections such as `training:`, not {_describe(values)}")
    parent = values.pop("preset", None)
    if parent is None:
        return [values]
    if not isinstance(parent, str):
        raise PicoLMError(f"`preset` in {origin} must name a preset or a file, not {_describe(parent)}")
    if parent.endswith((".yaml", ".yml")):
        parent = str(folder / parent)
    return [*_layers_of(parent, (*seen, target)), values]


def _read_target(target: str) -> tuple[str, str, Path]:
    presets = preset_names()
    if target in presets:
        text = (resources.files("picolm.config") / "presets" / f"{target}.yaml").read_text(encoding="utf-8")
        return text, f"preset '{target}'", Path()
    path = Path(target)
    if path.suffix not in (".yaml", ".yml"):
        raise PicoLMError(f"there is no preset '{target}'{nearest(target, presets)}; a file must end in .yaml")
    try:
        return path.read_text(encoding="utf-8"), str(path), path.parent
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise PicoLMError(f"there is no configuration file '{path}'{nearest(path.name, siblings)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PicoLMError(f"cannot read the configuration '{path}': {error}") from None


def _parse_overrides(overrides: Overrides) -> list[tuple[str, object]]:
    if isinstance(overrides, Mapping):
        return list(overrides.items())
    pairs: list[tuple[str, object]] = []
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise PicoLMError(f"'{item}' is not an override; write key.path=value, for example training.steps=100")
        pairs.append((key.strip(), parse_yaml(value, origin=f"the value of '{item}'")))
    return pairs


def used(words: str) -> str:
    """Which intervention a `--with` names."""
    return words.split(maxsplit=1)[0] if words.strip() else ""


def _with_use(present: Any, words: str) -> list[Any]:
    """A list of interventions with one more, or with other settings of one that is there."""
    try:
        use, *settings = shlex.split(words)
    except ValueError as error:
        raise PicoLMError(f"--with '{words}' names no intervention: write NAME key=value ... ({error})") from None
    added: dict[str, Any] = {"use": use}
    for key, value in _parse_overrides(settings):
        added = _merge(added, _nest(key, value))
    listed = list(present) if isinstance(present, list | tuple) else []
    for place, other in enumerate(listed):
        if isinstance(other, Mapping) and other.get("use") == use:
            listed[place] = _merge(other, added)
            return listed
    return [*listed, added]


def _nest(key: str, value: object) -> dict[str, Any]:
    *parents, last = key.split(".")
    nested: dict[str, Any] = {last: value}
    for parent in reversed(parents):
        nested = {parent: nested}
    return nested


def _merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Put `upper` over `lower`, section by section."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            # Another kind (of objective, of optimizer) has other keys: those of the old one would only be refused.
            same_kind = "kind" not in value or value["kind"] == below.get("kind", value["kind"])
            merged[key] = _merge(below if same_kind else {}, value)
        elif isinstance(value, Mapping) and isinstance(below, list | tuple) and all(k.isdecimal() for k in value):
            merged[key] = _merge_items(key, below, value)
        else:
            merged[key] = value
    return merged


def _merge_items(key: str, lower: Sequence[Any], upper: Mapping[str, Any]) -> list[Any]:
    """Put values over single items of a list: `interventions.0.until=100`."""
    items = list(lower)
    for place, value in upper.items():
        if int(place) >= len(items):
            raise PicoLMError(f"{key}.{place} does not exist: {key} has {len(items)} items, counted from 0")
        below = items[int(place)]
        items[int(place)] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return items


# What other tools call it, or where one looks for it first.
_ELSEWHERE = {
    "lr": "optimizer.learning_rate",
    "epochs": "training.steps",
    "max_steps": "training.steps",
    "dtype": "training.precision",
    "seed": "seeds.init",
    "accumulation": "training.micro_batch_size",
    "gradient_accumulation_steps": "training.micro_batch_size",
    "max_seq_len": "data.sequence_length",
    "tie_word_embeddings": "model.tied",
}

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a section with keys of its own",
    "model_attributes_type": "a section with keys of its own",
    "dict_type": "a section with keys of its own",
}


def explain(error: ValidationError, section: type[BaseModel] = Config) -> str:
    """Say in one sentence what the first problem is: the key, what it must be, what it was.

    Args:
        error: what the validation of `section` raised.
        section: whose keys are the valid ones.
    """
    problems = error.errors(include_url=False)
    # What is missing may be there under a name that is not quite right.
    unknown = [one for one in problems if one["type"] == "extra_forbidden" and problems[0]["type"] == "missing"]
    problem = [*unknown, *problems][0]
    path = [str(part) for part in problem["loc"]]
    variant = path.pop(1) if len(path) > 1 and path[1] in kinds_of(path[0]) else None
    key = ".".join(path) or "the configuration"
    kind, given, context = problem["type"], _describe(problem["input"]), problem.get("ctx", {})
    if kind == "extra_forbidden":
        keys = valid_keys(section)
        if variant is not None and key in keys:
            return f"{key} means nothing to {path[0]}.kind={variant}: leave it out or choose another kind"
        elsewhere = _ELSEWHERE.get(path[-1])
        return f"unknown key '{key}'" + (f"; did you mean '{elsewhere}'?" if elsewhere else nearest(key, keys))
    if kind == "missing":
        return f"{key} is missing"
    if kind == "value_error":
        return f"{context['error']}" if key == "the configuration" else f"{key}: {context['error']}"
    if kind == "literal_error":
        return f"{key} must be one of {context['expected'].replace(' or ', ', ')}, not {given}"
    if kind == "union_tag_invalid":
        return f"{key}.kind must be one of {context['expected_tags']}, not '{context['tag']}'"
    if kind in _EXPECTED:
        return f"{key} must be {_EXPECTED[kind]}, not {given}"
    message = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{key} must be {message}, not {given}"


def _describe(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, list | tuple):
        return f"the list {json.dumps(list(value), default=str)[:60]}"
    return (
        f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)[:60]
    )
