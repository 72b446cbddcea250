"""One text with what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


@dataclass(frozen=True, slots=True)
class Document:
    """A text that is trained on, or held out, as a whole.

    Attributes:
        id: names the document within its source.
        text: never empty, never only white space.
        domain: the group in which its loss is reported.
        metadata: what else its record said (age, licence, level, ...): anything that JSON can hold.
    """

    id: str
    text: str
    domain: str
    metadata: Mapping[str, JSON] = field(default_factory=dict)
