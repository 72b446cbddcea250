"""Minimal pairs: two sentences that differ in one thing, of which the grammar makes one and forbids the other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from picolm.errors import PicoLMError, nearest
from picolm.text.document import Tag
from picolm.text.world.draw import Draw
from picolm.text.world.holdout import is_admissible
from picolm.text.world.paradigms.paradigm import BANDS, Band, Contrast, Paradigm
from picolm.text.world.words import Page, Words


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """A sentence of the grammar and its neighbour outside.

    Attributes:
        good: the sentence that the grammar makes.
        bad: the one that breaks the paradigm's rule, and nothing else.
        phenomenon: the group in which accuracies are reported.
        field: `morphology`, `syntax`, `semantics` or `syntax_semantics`.
        paradigm: which rule, in which surroundings.
        frequency_band: how common the head of the sentence is in the corpus: a third of all pairs each.
        number: of the pair in its paradigm; 2 n and 2 n + 1 mirror each other.
        is_novel: whether the good sentence needs a noun and a verb that never stand side by side in the corpus.
        good_tags: the parts of speech of `good`.
        bad_tags: the parts of speech of `bad`.
    """

    good: str
    bad: str
    phenomenon: str
    field: str
    paradigm: str
    frequency_band: Band
    number: int
    is_novel: bool
    good_tags: tuple[Tag, ...]
    bad_tags: tuple[Tag, ...]

    def record(self) -> dict[str, str | bool]:
        """Return the pair under the names of BLiMP's files, and two of our own at the end."""
        return {
            "sentence_good": self.good,
            "sentence_bad": self.bad,
            "field": self.field,
            "linguistics_term": self.phenomenon,
            "UID": self.paradigm,
            "pairID": str(self.number),
            "frequency_band": self.frequency_band,
            "novel": self.is_novel,
        }


def make_pairs(paradigms: Iterable[Paradigm], *, count: int, seed: int, key: str) -> Iterator[MinimalPair]:
    """Make the pairs of paradigms.

    Args:
        paradigms: of one corpus.
        count: pairs of each; even, because every pair comes with its mirror image. Fewer are a prefix of more.
        seed: of all of them.
        key: names the corpus, so that two corpora draw apart.

    Raises:
        PicoLMError: the count is odd or not positive, or a paradigm has not that many different pairs.
    """
    if count < 2 or count % 2:
        raise PicoLMError(f"pairs come with their mirror images: give an even count of at least 2, not {count}")
    for paradigm in paradigms:
        yield from _of_one(paradigm, count, seed, key)


def _of_one(paradigm: Paradigm, count: int, seed: int, key: str) -> Iterator[MinimalPair]:
    seen: set[Words] = set()
    for item in range(count // 2):
        band = BANDS[item % len(BANDS)]
        draw = Draw.keyed(seed, "minimal pairs", key, paradigm.name, item)
        for _ in range(1000):
            made = paradigm.build(draw, band)
            if not seen & {made[0].good, made[1].good}:
                break
        else:
            raise PicoLMError(f"{paradigm.name} has not {count} different pairs: ask for at most {2 * item}")
        seen |= {made[0].good, made[1].good}
        for side, contrast in enumerate(made):
            yield _pair(paradigm, contrast, band, 2 * item + side)


def _pair(paradigm: Paradigm, contrast: Contrast, band: Band, number: int) -> MinimalPair:
    good, bad = Page(), Page()
    good.write(contrast.good)
    bad.write(contrast.bad)
    return MinimalPair(
        good=good.text,
        bad=bad.text,
        phenomenon=paradigm.phenomenon,
        field=paradigm.field,
        paradigm=paradigm.name,
        frequency_band=band,
        number=number,
        is_novel=not is_admissible(contrast.good),
        good_tags=tuple(good.tags),
        bad_tags=tuple(bad.tags),
    )


def select(paradigms: Iterable[Paradigm], name: str | None) -> tuple[Paradigm, ...]:
    """Choose paradigms by the name of a phenomenon or of a paradigm; None: all."""
    some = tuple(paradigms)
    chosen = tuple(paradigm for paradigm in some if name in (None, paradigm.phenomenon, paradigm.name))
    if not chosen:
        names = [name for paradigm in some for name in (paradigm.phenomenon, paradigm.name)]
        raise PicoLMError(f"there is no phenomenon or paradigm '{name}'{nearest(str(name), dict.fromkeys(names))}")
    return chosen


def write_pairs(pairs: Iterable[MinimalPair], path: Path) -> int:
    """Write pairs as JSON lines with BLiMP's keys; return how many."""
    lines = [json.dumps(pair.record(), ensure_ascii=False) + "\n" for pair in pairs]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return len(lines)
