"""One text with what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


class Tag(NamedTuple):
    """A part of speech: the characters `start` to `stop` (exclusive) of a text, and their universal tag (UPOS)."""

    start: int
    stop: int
    upos: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text that is trained on, or held out, as a whole.

    Attributes:
        id: names the document within its source.
        text: never empty, never only white space.
        domain: the group in which its loss is reported.
        metadata: what else its record said (age, licence, level, ...): anything that JSON can hold.
        tags: the parts of speech of its words, in order and without overlap; empty where they are not known.
    """

    id: str
    text: str
    domain: str
    metadata: Mapping[str, JSON] = field(default_factory=dict)
    tags: tuple[Tag, ...] = ()
