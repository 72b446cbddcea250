"""From tags to entities and back: which words belong to one name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from picolm.evaluation.entities.iob2 import OUTSIDE


class Entity(NamedTuple):
    """A name: the words from `start` to before `stop`."""

    kind: str
    """Its type, one of `TYPES`."""
    start: int
    stop: int


def entities(tags: Sequence[str], *, strict: bool = False) -> list[Entity]:
    """The entities of a sentence, in order.

    `B-` begins an entity, and each `I-` of its type goes on with it. What an `I-` means that nothing of its type stands
    before is where scorers differ. In the lenient reading (conlleval's, and seqeval's by default) it begins an entity
    too; in the strict one (seqeval's `mode="strict", scheme=IOB2`) it is no part of any.

    Args:
        tags: `O`, `B-type` or `I-type`.
        strict: which reading.
    """
    found: list[Entity] = []
    kind, start = "", 0
    for place, tag in enumerate((*tags, OUTSIDE)):
        prefix, _, own = tag.partition("-")
        if prefix == "I" and own == kind:
            continue
        if kind:
            found.append(Entity(kind, start, place))
        begins = prefix == "B" or (prefix == "I" and not strict)
        kind, start = own if begins else "", place
    return found


def illegal_starts(tags: Sequence[str]) -> int:
    """How many `I-` have nothing of their type before them, so that IOB2 does not know them."""
    before = (OUTSIDE, *tags)
    return sum(tag.startswith("I-") and last[2:] != tag[2:] for last, tag in zip(before, tags, strict=False))


def repaired(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags with each illegal `I-` made the `B-` that the lenient reading takes it for; its entities are the same."""
    before = (OUTSIDE, *tags)
    return tuple(
        f"B-{tag[2:]}" if tag.startswith("I-") and last[2:] != tag[2:] else tag
        for last, tag in zip(before, tags, strict=False)
    )
