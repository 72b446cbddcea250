"""What a minimal pair is made by: a rule, a pair that hangs on it, and the mirror image of that pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from picolm.text.world.draw import Draw
from picolm.text.world.words import Words

_Filling = TypeVar("_Filling")

Band = Literal["frequent", "middle", "rare"]
BANDS: tuple[Band, ...] = ("frequent", "middle", "rare")


class Contrast(NamedTuple):
    """A sentence of the grammar, and one that breaks a single rule of it."""

    good: Words
    bad: Words


# Of the second, the good sentence has the words that made the first one bad: no count of words tells good from bad.
Twins = tuple[Contrast, Contrast]


@dataclass(frozen=True, slots=True)
class Paradigm:
    """A way in which a rule is put to the test.

    Attributes:
        name: unique; the UID of its pairs.
        phenomenon: the group in which its accuracy is reported (BLiMP's `linguistics_term`).
        field: `morphology`, `syntax`, `semantics` or `syntax_semantics`, as in BLiMP.
        rule: what the bad sentence breaks, in one sentence.
        build: makes a pair and its mirror image, with a head noun (or verb, or name) of a frequency band.
        misleads: whether neighbouring words speak for the bad sentence at least as much as for the good one: what
            decides stands further away.
    """

    name: str
    phenomenon: str
    field: str
    rule: str
    build: Callable[[Draw, Band], Twins]
    misleads: bool = False


def twins(
    first: Callable[[_Filling], Words], second: Callable[[_Filling], Words], one: _Filling, other: _Filling
) -> Twins:
    """Fill two frames with two fillings: the first frame wants `one`, the second wants `other`."""
    return Contrast(first(one), first(other)), Contrast(second(other), second(one))
