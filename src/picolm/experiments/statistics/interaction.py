"""Whether an effect changes with size: the contrast of effects between sizes of model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from picolm.errors import PicoLMError
from picolm.experiments.statistics.estimate import Estimate
from picolm.experiments.statistics.seeds import Dropped, FloatArray, Seed, matched, mean_over_seeds


@dataclass(frozen=True, slots=True)
class Interaction:
    """How an effect changes with size.

    Attributes:
        estimate: with two sizes, the effect at the larger less that at the smaller; with more, the slope of the effect
            per tenfold parameters.
        unit: of the estimate, in words.
        sizes: in parameters, ascending.
        effects: mean effect at each size, in the same order.
        dropped: seeds that were left out, and why.
    """

    estimate: Estimate
    unit: str
    sizes: tuple[float, ...]
    effects: tuple[float, ...]
    dropped: tuple[Dropped, ...]


def interaction(effects: Mapping[float, Mapping[Seed, float]], *, same_seeds: bool) -> Interaction:
    """Contrast seed-paired effects between sizes.

    The contrast is sum_k c_k effect_k, with c = (-1, 1) for two sizes, and for more that of the least-squares slope,
    c_k = (x_k - mean x) / sum (x - mean x)^2 with x = log10(parameters). With the same seeds at all sizes it is taken
    seed by seed, then one-sample t; else its variance is sum_k c_k^2 sd_k^2 / n_k, with the degrees of freedom of
    Welch and Satterthwaite.

    Args:
        effects: by parameters, the differences of treatment and baseline by seed (`PairedDifference.differences`).
        same_seeds: whether a seed means the same at all sizes, such as the same order of data.

    Raises:
        PicoLMError: fewer than two sizes, one that is not positive, or no seed that can be used.
    """
    sizes = tuple(sorted(effects))
    if len(sizes) < 2 or sizes[0] <= 0 or not math.isfinite(sizes[-1]):
        raise PicoLMError(f"an interaction with size needs two sizes or more, all above 0, not {list(sizes)}")
    contrast = _contrast(sizes)
    named = {f"the effect at {size:,g} parameters": effects[size] for size in sizes}
    if same_seeds:
        found = matched(named)
        cells, dropped = list(found.values), found.dropped
        by_seed = contrast @ found.values
        mean, error = mean_over_seeds(by_seed, scale=float((np.abs(contrast) @ np.abs(found.values)).max()))
        estimate = Estimate(mean, len(by_seed), error, None if error is None else len(by_seed) - 1)
    else:
        alone = [matched({name: values}) for name, values in named.items()]
        cells, dropped = [one.values[0] for one in alone], tuple(left for one in alone for left in one.dropped)
        estimate = _welch(contrast, cells)
    unit = "at the larger less at the smaller size" if len(sizes) == 2 else "per tenfold parameters"
    return Interaction(estimate, unit, sizes, tuple(float(cell.mean()) for cell in cells), dropped)


def _contrast(sizes: tuple[float, ...]) -> FloatArray:
    if len(sizes) == 2:
        return np.array([-1.0, 1.0])
    x = np.log10(sizes)
    centred = x - x.mean()
    return np.asarray(centred / (centred @ centred))


def _welch(contrast: FloatArray, cells: list[FloatArray]) -> Estimate:
    """The contrast of means that share no seed."""
    value = float(contrast @ [cell.mean() for cell in cells])
    counts = np.array([len(cell) for cell in cells])
    if counts.min() < 2:
        return Estimate(value, int(counts.min()), None, None)
    errors = [mean_over_seeds(cell)[1] or 0.0 for cell in cells]
    parts = np.square(contrast * errors)
    if not parts.any():
        return Estimate(value, int(counts.min()), 0.0, float(counts.sum() - len(cells)))
    df = parts.sum() ** 2 / (np.square(parts) / (counts - 1)).sum()
    return Estimate(value, int(counts.min()), math.sqrt(parts.sum()), float(df))
