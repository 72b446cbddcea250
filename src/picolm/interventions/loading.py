"""From the names in a configuration to intervention objects; code of others runs only where it is trusted."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from picolm.config import schema
from picolm.config.loading import explain
from picolm.errors import PicoLMError, nearest
from picolm.interventions.registry import REGISTRY
from picolm.runs.digest import sha256_of_bytes
from picolm.seams import SEAMS, Intervention


@dataclass(frozen=True, slots=True)
class Trust:
    """Which code that is not PicoLM's may run.

    Attributes:
        named: interventions that the user named on this command line, or in this call.
        hashes: SHA-256 of the code that a run was made with, by `use`; what matches may run.
    """

    named: Collection[str] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)

    def allow(self, use: str, sha256: str) -> None:
        """Raise PicoLMError unless this code may run."""
        if use in self.named or self.hashes.get(use) == sha256:
            return
        if use in self.hashes:
            raise PicoLMError(
                f"the code of {use} is not what the run was made with (its SHA-256 is {sha256[:12]}, that of the run "
                f"{self.hashes[use][:12]}): restore it, or name it with --with {use} to run it as it is now"
            )
        raise PicoLMError(f"the code of {use} runs only where you name it or trust it: add --with {use}")


@dataclass(frozen=True, slots=True)
class Loaded:
    """An intervention of a run.

    Attributes:
        name: in log, checkpoints and random streams; no other intervention of the run has it.
        use: where it came from.
        sha256: of its code; None for PicoLM's own.
        intervention: the object.
    """

    name: str
    use: str
    sha256: str | None
    intervention: Intervention

    def overrides(self, seam: str) -> bool:
        """Whether it changes a seam."""
        return getattr(type(self.intervention), seam) is not getattr(Intervention, seam)

    def plain(self) -> dict[str, Any]:
        """What `run.json` says of it: every setting, also those that were left at their default."""
        settings = self.intervention.settings.model_dump(mode="json")
        code = {} if self.sha256 is None else {"sha256": self.sha256}
        return {"use": self.use, "name": self.name, **settings, **code}


def load_interventions(uses: Iterable[schema.Use], trust: Trust) -> tuple[Loaded, ...]:
    """Load and build the interventions of a run, in order.

    Raises:
        PicoLMError: one does not exist, is not trusted, is set wrongly, or claims a seam that another one changes.
    """
    loaded: list[Loaded] = []
    for place, use in enumerate(uses):
        kind, sha256 = _resolve(use.use, trust)
        settings = _settings(kind, use, f"interventions.{place} ({use.use})")
        name = _free_name(use, [other.name for other in loaded])
        loaded.append(Loaded(name, use.use, sha256, kind(settings)))
    _refuse_conflicts(loaded)
    return tuple(loaded)


def _resolve(use: str, trust: Trust) -> tuple[type[Intervention], str | None]:
    place, colon, class_name = use.rpartition(":")
    if not colon:
        if use not in REGISTRY:
            hint = nearest(use, REGISTRY)
            raise PicoLMError(f"there is no intervention '{use}'{hint}; your own is named file.py:Class")
        module_name, _, class_name = REGISTRY[use].partition(":")
        return _class_of(importlib.import_module(module_name), class_name, use), None
    load = _load_file if place.endswith(".py") else _load_module
    module, sha256 = load(place, use, trust)
    return _class_of(module, class_name, use), sha256


def _load_file(place: str, use: str, trust: Trust) -> tuple[ModuleType, str]:
    path = Path(place)
    try:
        code = path.read_bytes()
    except OSError as error:
        siblings = [str(other) for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise PicoLMError(f"cannot read {path}: {error.strerror}{nearest(place, siblings)}") from None
    sha256 = sha256_of_bytes(code)
    trust.allow(use, sha256)
    # The bytes that were hashed are the ones that run. A name of its own, because pydantic looks a class's module up.
    module = ModuleType(f"picolm_user_{path.stem}_{sha256[:12]}")
    module.__file__ = str(path.resolve())
    sys.modules[module.__name__] = module
    _run(lambda: exec(compile(code, str(path), "exec"), module.__dict__), place)
    return module, sha256


def _load_module(place: str, use: str, trust: Trust) -> tuple[ModuleType, str]:
    # Not by `find_spec`, which runs the packages around a module before anyone was asked.
    parts = Path(*place.split("."))
    ends = (parts.with_suffix(".py"), parts / "__init__.py")
    files = [file for folder in sys.path for end in ends if (file := Path(folder) / end).is_file()]
    if not files:
        raise PicoLMError(f"there is no Python module '{place}' for the intervention {use}")
    sha256 = sha256_of_bytes(files[0].read_bytes())
    trust.allow(use, sha256)
    modules: list[ModuleType] = []
    _run(lambda: modules.append(importlib.import_module(place)), place)
    return modules[0], sha256


def _run(code: Any, place: str) -> None:
    try:
        code()
    except PicoLMError:
        raise
    except Exception as error:
        raise PicoLMError(f"{place} cannot be loaded: {type(error).__name__}: {error}") from error


def _class_of(module: ModuleType, name: str, use: str) -> type[Intervention]:
    classes = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Intervention) and value is not Intervention
    }
    if name not in classes:
        raise PicoLMError(f"{use}: there is no class '{name}' that is an Intervention{nearest(name, classes)}")
    return classes[name]


def _settings(kind: type[Intervention], use: schema.Use, key: str) -> schema.Section:
    try:
        return kind.Settings.model_validate(use.settings)
    except ValidationError as error:
        raise PicoLMError(f"{key}: {explain(error, kind.Settings)}") from None


def _free_name(use: schema.Use, taken: Sequence[str]) -> str:
    if use.name is not None:
        if use.name in taken or not use.name.replace("_", "").replace("-", "").isalnum():
            raise PicoLMError(f"'{use.name}' cannot name an intervention: letters, digits, - and _, each name once")
        return use.name
    stem = use.use.rpartition(":")[2]
    return next(name for name in (stem, *(f"{stem}-{number}" for number in range(2, 999))) if name not in taken)


def _refuse_conflicts(loaded: Sequence[Loaded]) -> None:
    for one in loaded:
        unknown = sorted(one.intervention.exclusive - set(SEAMS))
        if unknown:
            raise PicoLMError(
                f"{one.use} claims the seam '{unknown[0]}', which does not exist{nearest(unknown[0], SEAMS)}"
            )
        for other in loaded:
            shared = [seam for seam in sorted(one.intervention.exclusive) if other is not one and other.overrides(seam)]
            if shared:
                raise PicoLMError(
                    f"{one.name} and {other.name} cannot be in one run: {one.name} wants {shared[0]} for itself, and "
                    f"{other.name} changes it too"
                )
