"""Curves of several seeds: their mean, and the mean of paired differences, with a band."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from picolm.errors import PicoLMError
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.estimate import check_alpha
from picolm.experiments.statistics.seeds import Dropped, FloatArray, Seed, matched


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A mean curve with pointwise intervals.

    At each place the interval holds the truth as often as it says; that it does so at all places at once is less
    likely. Look at a scalar that was named beforehand before you believe a gap somewhere along a curve.

    Attributes:
        x: places [N].
        mean: over seeds [N].
        low: lower ends [N]; None of one seed.
        high: upper ends [N]; None of one seed.
        seeds: that were used.
        dropped: seeds that were left out, and why.
    """

    x: FloatArray
    mean: FloatArray
    low: FloatArray | None
    high: FloatArray | None
    seeds: tuple[Seed, ...]
    dropped: tuple[Dropped, ...]


def mean_band(curves: Mapping[Seed, Curve], *, at: npt.ArrayLike | None = None, alpha: float = 0.05) -> Band:
    """The mean curve over seeds, with t intervals at each place.

    Args:
        curves: by seed; one that is not finite at all places is left out, by name.
        at: places [N], between points by straight lines; None: those that all curves share.
        alpha: how often the interval at one place may miss.

    Raises:
        PicoLMError: no place is shared, a place lies outside a curve, or no seed has a finite curve.
    """
    x = places([curves], at)
    found = matched({"the curve": _heights(curves, x)})
    return _band(x, np.stack([curves[seed].at(x) for seed in found.seeds]), found.seeds, found.dropped, alpha)


def difference_band(
    treatment: Mapping[Seed, Curve],
    baseline: Mapping[Seed, Curve],
    *,
    at: npt.ArrayLike | None = None,
    alpha: float = 0.05,
) -> Band:
    """The mean of treatment less baseline on the same seed, with paired-t intervals at each place.

    Args:
        treatment: curves by seed.
        baseline: curves by seed.
        at: as in `mean_band`.
        alpha: as in `mean_band`.

    Raises:
        PicoLMError: as `mean_band`, or no seed has both curves.
    """
    x = places([treatment, baseline], at)
    found = matched({"treatment": _heights(treatment, x), "baseline": _heights(baseline, x)})
    differences = np.stack([treatment[seed].at(x) - baseline[seed].at(x) for seed in found.seeds])
    return _band(x, differences, found.seeds, found.dropped, alpha)


def places(arms: list[Mapping[Seed, Curve]], at: npt.ArrayLike | None) -> FloatArray:
    """Where to compare curves: where the user says, or at the places that all of them share [N].

    Raises:
        PicoLMError: there is no such place, or `at` is no list of places.
    """
    if at is not None:
        x = np.asarray(at, dtype=np.float64)
        if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
            raise PicoLMError("places to compare curves at must be a list of finite numbers, one at least")
        return x
    all_x = [curve.x for arm in arms for curve in arm.values()]
    shared = reduce(np.intersect1d, all_x) if all_x else np.empty(0)
    if not len(shared):
        raise PicoLMError("the curves share no place; give places to compare them at")
    return np.asarray(shared, dtype=np.float64)


def _heights(curves: Mapping[Seed, Curve], x: FloatArray) -> dict[Seed, float]:
    """One number for each curve that is finite only if all its values are."""
    return {seed: float(np.abs(curve.at(x)).max()) for seed, curve in curves.items()}


def _band(
    x: FloatArray, values: FloatArray, seeds: tuple[Seed, ...], dropped: tuple[Dropped, ...], alpha: float
) -> Band:
    check_alpha(alpha)
    mean, n = values.mean(axis=0), len(values)
    if n < 2:
        return Band(x, mean, None, None, seeds, dropped)
    half = -float(stdtrit(n - 1, alpha / 2)) * values.std(axis=0, ddof=1) / math.sqrt(n)
    return Band(x, mean, mean - half, mean + half, seeds, dropped)
