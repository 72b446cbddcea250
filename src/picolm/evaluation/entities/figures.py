"""From counts to the rows of `eval/`: F1 and its interval, of each test set, each type and what is taken together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from picolm.evaluation.batching import IntArray
from picolm.evaluation.entities.iob2 import TYPES
from picolm.evaluation.entities.resampling import resampled_counts
from picolm.evaluation.entities.rules import PERSON, Tally
from picolm.evaluation.entities.scores import FloatArray, f1, macro_f1, precision, recall
from picolm.evaluation.statistics import interval, wilson
from picolm.evaluation.task import Figure


@dataclass(frozen=True, slots=True)
class Scored:
    """What was counted on some sentences, by S seeds.

    Attributes:
        sums: over the sentences, [S, K, 3].
        strict: the same with tags read strictly, [S, K, 3].
        draws: bootstrap draws of `sums`, [draws, S, K, 3].
        n_sentences: how many.
        controls: sums of what knows less than the model, by name, each [its seeds, K, 3].
    """

    sums: IntArray
    strict: IntArray
    draws: IntArray
    n_sentences: int
    controls: Mapping[str, IntArray]

    @classmethod
    def of(
        cls, counts: IntArray, strict: IntArray, controls: Mapping[str, IntArray], *, draws: int, seed: int, name: str
    ) -> Scored:
        """Add up counts of sentences, [N, S, K, 3] each, and draw."""
        return cls(
            sums=counts.sum(axis=0),
            strict=strict.sum(axis=0),
            draws=resampled_counts(counts, draws=draws, seed=seed, key=name),
            n_sentences=len(counts),
            controls={control: own.sum(axis=0) for control, own in controls.items()},
        )

    @classmethod
    def together(cls, parts: Sequence[Scored]) -> Scored:
        """Several sets as one, each drawn by itself."""
        return cls(
            sums=np.sum([part.sums for part in parts], axis=0),
            strict=np.sum([part.strict for part in parts], axis=0),
            draws=np.sum([part.draws for part in parts], axis=0),
            n_sentences=sum(part.n_sentences for part in parts),
            controls={name: np.sum([part.controls[name] for part in parts], axis=0) for name in parts[0].controls},
        )

    def of_type(self, number: int) -> Scored:
        """The counts of one type, which stay a list of types, of one."""
        only = slice(number, number + 1)
        controls = {name: own[:, only] for name, own in self.controls.items()}
        return Scored(self.sums[:, only], self.strict[:, only], self.draws[:, :, only], self.n_sentences, controls)

    @property
    def n_entities(self) -> int:
        """Entities that are there."""
        return int(self.sums[0, :, [0, 2]].sum())

    def f1(self) -> FloatArray:
        """Micro-F1 of each seed, [S]."""
        return f1(self.sums.sum(axis=1))

    def drawn_f1(self) -> FloatArray:
        """Bootstrap draws of its mean over the seeds, [draws]."""
        return np.asarray(f1(self.draws.sum(axis=2)).mean(axis=1))

    def control_f1(self) -> dict[str, float]:
        """Micro-F1 of the controls, each the mean over its seeds."""
        return {name: float(f1(own.sum(axis=1)).mean()) for name, own in self.controls.items()}


class _F1(NamedTuple):
    """What is said of one F1: its values by seed, draws of their mean, and those of controls."""

    values: FloatArray
    draws: FloatArray
    controls: Mapping[str, float]
    n_entities: int
    n_sentences: int

    def figures(self, subset: str) -> Iterator[Figure]:
        """What a reader looks for first."""
        n, (low, high) = self.n_entities, interval(self.draws)
        yield Figure(subset, "f1", 100 * float(self.values.mean()), 100 * float(self.draws.std(ddof=1)), n)
        yield Figure(subset, "f1_low", 100 * low, None, n)
        yield Figure(subset, "f1_high", 100 * high, None, n)
        yield Figure(subset, "entities", n, None, self.n_sentences)
        for name, value in self.controls.items():
            yield Figure(subset, f"f1_{name}", 100 * value, None, n)
        if len(self.values) > 1:
            yield Figure(subset, "f1_seed_sd", 100 * float(self.values.std(ddof=1)), None, n)


def mean_figures(sets: Mapping[str, Scored]) -> Iterator[Figure]:
    """The unweighted mean of F1 over test sets, as tables of results end; the draws of sets are independent."""
    parts = list(sets.values())
    controls = [part.control_f1() for part in parts]
    mean = _F1(
        values=np.mean([part.f1() for part in parts], axis=0),
        draws=np.mean([part.drawn_f1() for part in parts], axis=0),
        controls={name: float(np.mean([own[name] for own in controls])) for name in controls[0]},
        n_entities=sum(part.n_entities for part in parts),
        n_sentences=sum(part.n_sentences for part in parts),
    )
    yield from mean.figures("all")


def set_figures(subset: str, scored: Scored) -> Iterator[Figure]:
    """All figures of a test set, and under `subset/type` those of each type that is there; means over the seeds."""
    micro = scored.sums.sum(axis=1)
    yield from _micro(scored).figures(subset)
    for name, values in (
        ("f1_strict", f1(scored.strict.sum(axis=1))),
        ("precision", precision(micro)),
        ("recall", recall(micro)),
        ("macro_f1", macro_f1(scored.sums)),
    ):
        yield Figure(subset, name, 100 * float(values.mean()), None, scored.n_entities)
    for number, kind in enumerate(TYPES):
        own = scored.of_type(number)
        # What is not there cannot be found; what is predicted of it, the precision of the set tells.
        if not own.n_entities:
            continue
        yield from _micro(own).figures(f"{subset}/{kind}")
        for name, measure in (("precision", precision), ("recall", recall)):
            value = 100 * float(measure(own.sums.sum(axis=1)).mean())
            yield Figure(f"{subset}/{kind}", name, value, None, own.n_entities)


def _micro(scored: Scored) -> _F1:
    return _F1(scored.f1(), scored.drawn_f1(), scored.control_f1(), scored.n_entities, scored.n_sentences)


def anchor_figures(subset: str, by_seed: Sequence[tuple[Tally, Tally]]) -> Iterator[Figure]:
    """Recall of persons' names right behind a particle and of the others, with Wilson's intervals.

    Args:
        subset: the test set.
        by_seed: what was found of either by each seed; recall is the mean, its n the names, which are the same for all.
    """
    for name, tallies in zip(("anchored", "unanchored"), zip(*by_seed, strict=True), strict=True):
        if n := tallies[0].n:
            share = float(np.mean([tally.hits for tally in tallies])) / n
            for ending, value in zip(("", "_low", "_high"), (share, *wilson(share, n)), strict=True):
                yield Figure(f"{subset}/{PERSON}", f"recall_{name}{ending}", 100 * value, None, n)
