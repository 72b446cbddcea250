"""The resolved configuration as tables: what each key means, and which values are not the default."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from picolm.report.markup import Markup, element, join
from picolm.report.record import Line, table

if TYPE_CHECKING:
    from pydantic import BaseModel


def configuration_tree(config: Line) -> Markup:
    """Return one block per section, in the order of the schema; changed values stand out."""
    from picolm.config.schema import Config

    defaults = Config().model_dump(mode="json")
    descriptions = dict(_descriptions(Config, config))
    sections = [(name, part if isinstance(part, dict) else {name: part}) for name, part in _ordered(config, defaults)]
    return join(
        element(
            "div",
            element("h3", name),
            element("dl", *_entries(part, table(defaults, name), name, descriptions)),
            class_="block",
        )
        for name, part in sections
    )


def _entries(part: Line, defaults: Line, path: str, descriptions: dict[str, str], prefix: str = "") -> Iterator[Markup]:
    for key, value in _ordered(part, defaults):
        here = f"{path}.{key}"
        if isinstance(value, dict) and value:
            yield from _entries(value, table(defaults, key), here, descriptions, f"{prefix}{key}.")
            continue
        changed = key in defaults and defaults[key] != value
        yield element(
            "div",
            element("dt", f"{prefix}{key}", **({"title": descriptions[here]} if descriptions.get(here) else {})),
            element("dd", _written(value)),
            class_="changed" if changed else "default",
        )


def _ordered(part: Line, defaults: Line) -> list[tuple[str, Any]]:
    # `run.json` is sorted by name; the schema puts together what belongs together.
    places = {key: place for place, key in enumerate(defaults)}
    return sorted(part.items(), key=lambda item: places.get(item[0], len(places)))


def _written(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _descriptions(section: type[BaseModel], values: Line, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", field.description or ""
        for part in _sections_in(field.annotation, table(values, name).get("kind")):
            yield from _descriptions(part, table(values, name), f"{prefix}{name}.")


def _sections_in(annotation: object, kind: object) -> Iterator[type[BaseModel]]:
    # A part that comes in several kinds (the objective) is described by the class of the kind that it is.
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        own = annotation.model_fields.get("kind")
        if kind is None or own is None or own.default == kind:
            yield annotation
    for argument in get_args(annotation):
        yield from _sections_in(argument, kind)
