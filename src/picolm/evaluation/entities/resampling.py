"""How sure scores of entities are: bootstrap over sentences, of one model and of the difference of two.

Names of one sentence stand or fall together, so whole sentences are drawn. To draw N of N sentences with replacement
and add up their counts is one multinomial draw of how often each pattern of counts comes, and patterns are few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from picolm.evaluation.batching import IntArray
from picolm.evaluation.entities.scores import f1
from picolm.evaluation.statistics import interval
from picolm.randomness import Key, generator

DRAWS = 10_000


def resampled_counts(counts: IntArray, *, draws: int, seed: int, key: Key) -> IntArray:
    """Sums of counts over N sentences that are drawn with replacement.

    Args:
        counts: of each sentence, [N, ...]; what belongs together, such as seeds or two models, in further dimensions.
        draws: how many.
        seed: of all sets.
        key: names the set, so that no set's draws depend on another's.

    Returns:
        [draws, ...].
    """
    patterns, times = np.unique(counts, axis=0, return_counts=True)
    drawn = generator(seed, "bootstrap of sentences", key).multinomial(len(counts), times / len(counts), size=draws)
    return np.tensordot(drawn, patterns, axes=1)


class Difference(NamedTuple):
    """F1 of one model minus that of another, each the mean over its seeds; shares, not per cent."""

    one: float
    other: float
    difference: float
    low: float
    """The 95 % interval of the difference begins here: percentiles of the draws."""
    high: float
    p: float
    """Two-sided: twice the share of draws on the far side of 0, each side counted with one draw more, 1 at most."""
    n_entities: int
    n_sentences: int


def compared(
    one: Mapping[str, IntArray], other: Mapping[str, IntArray], names: Sequence[str], *, draws: int, seed: int
) -> Difference:
    """Compare two models on some sets, taken together, by a paired bootstrap (Efron & Tibshirani 1993; Koehn 2004).

    Each draw takes the same sentences for both models, and as many of each set as it has.

    Args:
        one: counts of a model by set, [N, seeds, 3], sentences in the same order as those of the other.
        other: likewise, of the same sentences; it may have other seeds.
        names: of the sets.
        draws: how many.
        seed: of the draws.
    """
    both = {name: np.concatenate([one[name], other[name]], axis=1) for name in names}
    sums = np.sum([found.sum(axis=0) for found in both.values()], axis=0)
    drawn = np.sum([resampled_counts(found, draws=draws, seed=seed, key=name) for name, found in both.items()], axis=0)
    of_one, of_other = slice(one[names[0]].shape[1]), slice(one[names[0]].shape[1], None)
    differences = f1(drawn[:, of_one]).mean(axis=1) - f1(drawn[:, of_other]).mean(axis=1)
    low, high = interval(differences)
    values = float(f1(sums[of_one]).mean()), float(f1(sums[of_other]).mean())
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return Difference(
        *values,
        difference=values[0] - values[1],
        low=low,
        high=high,
        p=min(1.0, 2 * (beyond + 1) / (draws + 1)),
        n_entities=int(sums[0, [0, 2]].sum()),
        n_sentences=sum(map(len, both.values())),
    )
