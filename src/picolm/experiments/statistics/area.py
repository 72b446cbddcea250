"""The area between curves: one number for how two arms differ all the way, by seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from picolm.errors import PicoLMError
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.differences import PairedDifference, paired_difference
from picolm.experiments.statistics.noise import NoiseFloor
from picolm.experiments.statistics.seeds import Seed


def area_between(
    treatment: Mapping[Seed, Curve],
    baseline: Mapping[Seed, Curve],
    *,
    start: float | None = None,
    end: float | None = None,
    noise: NoiseFloor | None = None,
) -> PairedDifference:
    """Areas under the curves by the trapezoid rule, compared seed by seed.

    Each area is that of the straight lines between points, to the digit, in units of y times x. Divide by end - start
    for the mean difference along x. Early steps weigh as much as late ones: give curves against the logarithm of
    steps where they should not. A curve that is not finite on the way has no finite area, so its seed is left out.

    Args:
        treatment: curves by seed, against the same x as the baseline's.
        baseline: curves by seed.
        start: from where; None: where the last curve begins.
        end: up to where; None: where the first curve ends.
        noise: of the baseline's areas, for `in_noise_sds`.

    Raises:
        PicoLMError: curves do not reach from start to end, or no seed has both curves, finite.
    """
    curves = [*treatment.values(), *baseline.values()]
    if not curves:
        raise PicoLMError("an area between curves needs a curve of each arm")
    low = max(float(curve.x[0]) for curve in curves) if start is None else start
    high = min(float(curve.x[-1]) for curve in curves) if end is None else end
    if not low < high:
        raise PicoLMError(f"an area between curves needs a start before its end, not {low:g} and {high:g}")
    areas = [{seed: _area(curve, low, high) for seed, curve in arm.items()} for arm in (treatment, baseline)]
    return paired_difference(areas[0], areas[1], noise=noise)


def _area(curve: Curve, low: float, high: float) -> float:
    inside = curve.x[(curve.x > low) & (curve.x < high)]
    x = np.concatenate([[low], inside, [high]])
    return float(np.trapezoid(curve.at(x), x))
