"""Differences of scores on items, with seeds and items both drawn at random and crossed: each seed meets each item."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picolm.errors import PicoLMError
from picolm.experiments.statistics.estimate import Estimate
from picolm.experiments.statistics.seeds import Dropped, FloatArray, Matched, Seed, matched, mean_over_seeds
from picolm.randomness import generator

# Counts of this many numbers are held at once.
_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class CrossedDifference:
    """What a change did to a mean over items.

    Attributes:
        estimate: the mean difference, with a standard error over seeds and one over items.
        differences: of the means over items, treatment less baseline, by seed.
        items: that were drawn independently: items, or groups of items.
        seed_variance: of the effect between seeds, beyond what their own items make.
        item_variance: of the effect between items, alike for all seeds.
        residual_variance: of the effect of one seed on one item.
        dropped: seeds that were left out, and why.
    """

    estimate: Estimate
    differences: Mapping[Seed, float]
    items: int
    seed_variance: float
    item_variance: float
    residual_variance: float
    dropped: tuple[Dropped, ...]


def crossed_difference(
    treatment: Mapping[Seed, npt.ArrayLike],
    baseline: Mapping[Seed, npt.ArrayLike],
    *,
    groups: Sequence[int | str] | None = None,
    draws: int = 0,
    seed: int = 0,
) -> CrossedDifference:
    """Compare two arms on items, for claims about other seeds AND other items than those that were seen.

    d_si = mean + seed_s + item_i + residual_si. The mean over S seeds and I items has the variance
    seed / S + item / I + residual / (S I). The first and the last are what paired means over items show between seeds,
    MS_seeds / (S I), with S - 1 degrees of freedom; the middle is (MS_items - MS_residual) / (S I), not below 0. They
    are added as `Estimate` says, so that the interval is never narrower than the paired t over seeds.

    Args:
        treatment: scores by seed, each [I], items in the same order everywhere.
        baseline: the same of the other arm.
        groups: of each item [I], where items were drawn together, such as sentences of a paradigm; then groups are
            what is drawn, and the mean stays that over items.
        draws: 0 takes the variance over items in closed form, to which that of a bootstrap over items, crossed with
            seeds, tends; more draws it so often. With groups of very unequal size the bootstrap is the better.
        seed: of the draws.

    Raises:
        PicoLMError: no seed has finite scores in both arms, scores differ in number, or there are fewer than two items.

    Source:
        Variance components: Brennan 2001, Generalizability Theory; resampling of crossed factors: Owen 2007, The
        pigeonhole bootstrap, and Owen and Eckles 2012.
    """
    found, differences = _paired_scores(treatment, baseline)
    sums, counts = _grouped(differences, groups)
    by_seed = sums.sum(axis=1) / counts.sum()
    S, G = sums.shape
    if G < 2:
        raise PicoLMError(f"a difference over items needs two {'groups' if groups is not None else 'items'} or more")
    shifts = _drawn(sums, counts, draws, seed) if draws else _linear(sums, counts, by_seed)
    over_items, residual = _item_variances(shifts)
    item_error = math.sqrt(max(over_items - residual, 0.0))
    scale = float(np.abs(found.values).max())
    mean, seed_error = mean_over_seeds(by_seed, scale=scale)
    return CrossedDifference(
        estimate=Estimate(mean, S, seed_error, None if seed_error is None else S - 1, item_error, G - 1),
        differences=dict(zip(found.seeds, by_seed.tolist(), strict=True)),
        items=G,
        seed_variance=max(S * ((seed_error or 0.0) ** 2 - residual), 0.0),
        item_variance=G * item_error**2,
        residual_variance=S * G * residual,
        dropped=found.dropped,
    )


def _paired_scores(
    treatment: Mapping[Seed, npt.ArrayLike], baseline: Mapping[Seed, npt.ArrayLike]
) -> tuple[Matched, FloatArray]:
    """The seeds with finite scores in both arms, and their differences [S, I]."""
    arms = [
        {seed: np.asarray(scores, dtype=np.float64) for seed, scores in arm.items()} for arm in (treatment, baseline)
    ]
    lengths = {scores.shape for arm in arms for scores in arm.values()}
    if len(lengths) > 1 or any(len(shape) != 1 for shape in lengths):
        raise PicoLMError(f"every seed needs one score for each item, not scores of shapes {sorted(lengths)}")
    if lengths == {(0,)}:
        raise PicoLMError("a difference over items needs two items or more, not 0")
    # The largest score stands for all: it is finite only if they all are, and is the scale of rounding.
    largest = [{seed: float(np.abs(scores).max()) for seed, scores in arm.items()} for arm in arms]
    found = matched({"treatment": largest[0], "baseline": largest[1]})
    return found, np.stack([arms[0][seed] - arms[1][seed] for seed in found.seeds])


def _grouped(differences: FloatArray, groups: Sequence[int | str] | None) -> tuple[FloatArray, FloatArray]:
    """Sums of differences by group [S, G] and items in each [G]."""
    if groups is None:
        return differences, np.ones(differences.shape[1])
    if len(groups) != differences.shape[1]:
        raise PicoLMError(f"{differences.shape[1]} items need as many groups, not {len(groups)}")
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    numbers = np.array([places[group] for group in groups])
    counts = np.bincount(numbers).astype(np.float64)
    return np.stack([np.bincount(numbers, weights=row) for row in differences]), counts


def _linear(sums: FloatArray, counts: FloatArray, by_seed: FloatArray) -> FloatArray:
    """What each group adds to the mean of each seed, scaled as the draws of a bootstrap would vary [G, S].

    To first order the mean moves by (sum_g - mean count_g) / items when a group comes once more.
    """
    groups = len(counts)
    moves = (sums - by_seed[:, None] * counts) / counts.sum()
    return np.asarray(moves.T * groups / math.sqrt(groups - 1))


def _drawn(sums: FloatArray, counts: FloatArray, draws: int, seed: int) -> FloatArray:
    """Means by seed over groups that were drawn anew, the same ones for all seeds [draws, S]."""
    groups = len(counts)
    source = generator(seed, "items crossed with seeds")
    means = []
    for start in range(0, draws, max(1, _AT_ONCE // groups)):
        size = min(draws - start, max(1, _AT_ONCE // groups))
        times = source.multinomial(groups, np.full(groups, 1 / groups), size=size)
        means.append((times @ sums.T) / (times @ counts)[:, None])
    # A bootstrap of G has the variance of a sample without the G - 1.
    return np.asarray(np.concatenate(means) * math.sqrt(groups / (groups - 1)))


def _item_variances(means: FloatArray) -> tuple[float, float]:
    """Variance over draws [D, S] of the mean over seeds, and the part of it that seeds do not share."""
    overall = means.mean(axis=1)
    seeds = means.shape[1]
    if seeds < 2:
        return float(overall.var()), 0.0
    own = (means - overall[:, None]).var(axis=0).sum() / (seeds * (seeds - 1))
    return float(overall.var()), float(own)
