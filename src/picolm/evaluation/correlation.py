"""Correlations of two measures of the same items, by value and by rank, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from picolm.evaluation.statistics import FloatArray, interval
from picolm.randomness import Key, generator

Coefficient = Callable[[FloatArray, FloatArray], float | None]


class Correlation(NamedTuple):
    """A coefficient over items with its 95 % interval.

    The interval is None where resampled items leave the coefficient undefined: there are too few different ones.
    """

    value: float
    low: float | None
    high: float | None
    n: int


def pearson(x: FloatArray, y: FloatArray) -> float | None:
    """Pearson's r of two measures [N], from -1 to 1; None where one of them is the same for all items."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    dx, dy = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((dx @ dx) * (dy @ dy)))
    return float(np.clip(dx @ dy / norm, -1, 1)) if norm > 0 else None


def spearman(x: FloatArray, y: FloatArray) -> float | None:
    """Spearman's rho, Pearson's r of ranks; None where it is not defined."""
    return pearson(ranks(x), ranks(y))


def ranks(values: FloatArray) -> FloatArray:
    """Ranks from 1, equal values sharing the mean of theirs, float64 [N]."""
    ordered = np.sort(values)
    below, upto = np.searchsorted(ordered, values, side="left"), np.searchsorted(ordered, values, side="right")
    return np.asarray((below + upto + 1) / 2)


def correlation(
    coefficient: Coefficient, x: FloatArray, y: FloatArray, *, draws: int, seed: int, key: Key
) -> Correlation | None:
    """A coefficient with the percentile interval of a bootstrap over items.

    Args:
        coefficient: `pearson` or `spearman`.
        x: of each item [N].
        y: of each item [N].
        draws: how often items are drawn, with replacement.
        seed: of all draws.
        key: names what is compared; coefficients with one key are computed of the same draws.

    Returns:
        None where the coefficient is not defined.
    """
    value = coefficient(x, y)
    if value is None:
        return None
    places = generator(seed, "bootstrap of correlations", key).integers(0, len(x), size=(draws, len(x)))
    drawn = [coefficient(x[some], y[some]) for some in places]
    defined = np.array([one for one in drawn if one is not None])
    low, high = interval(defined) if len(defined) == draws else (None, None)
    return Correlation(value, low, high, len(x))
