"""Seed-paired differences: treatment less baseline on the same seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from picolm.experiments.statistics.estimate import Estimate
from picolm.experiments.statistics.noise import NoiseFloor
from picolm.experiments.statistics.seeds import Dropped, Seed, matched, mean_over_seeds


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """What a change did to one number, seed by seed.

    Attributes:
        estimate: the mean difference; its `interval` and `p_value` are those of the paired t-test.
        differences: treatment less baseline by seed.
        hedges_gz: mean difference over the sd of differences, with Hedges' correction for few seeds; how well the
            effect stands out of its own spread. None with fewer than three seeds or without spread.
        in_noise_sds: mean difference over the sd of the baseline's seeds: how many seeds' worth the change is. None
            without a noise floor, or one without spread.
        dropped: seeds that were left out, and why.
    """

    estimate: Estimate
    differences: Mapping[Seed, float]
    hedges_gz: float | None
    in_noise_sds: float | None
    dropped: tuple[Dropped, ...]


def paired_difference(
    treatment: Mapping[Seed, float], baseline: Mapping[Seed, float], *, noise: NoiseFloor | None = None
) -> PairedDifference:
    """Compare two arms seed by seed.

    mean(d) +- t_{n-1} sd(d) / sqrt(n) with d = treatment - baseline. It needs seeds that were drawn independently
    (forks of one parent are not) and differences that are about normal, of which few seeds can say nothing.

    Args:
        treatment: value by seed.
        baseline: value by seed; of the seeds that one arm lacks, or where it is not finite, none is used.
        noise: what seeds alone do, for `in_noise_sds`.

    Raises:
        PicoLMError: no seed has a finite value in both arms.
    """
    found = matched({"treatment": treatment, "baseline": baseline})
    differences = found.values[0] - found.values[1]
    n = len(differences)
    mean, error = mean_over_seeds(differences, scale=float(np.abs(found.values).max()))
    return PairedDifference(
        estimate=Estimate(mean, n, error, None if error is None else n - 1),
        differences=dict(zip(found.seeds, differences.tolist(), strict=True)),
        hedges_gz=mean / (error * math.sqrt(n)) * hedges_correction(n - 1) if error and n > 2 else None,
        in_noise_sds=mean / noise.sd if noise is not None and noise.sd > 0 else None,
        dropped=found.dropped,
    )


def hedges_correction(degrees_of_freedom: int) -> float:
    """What a mean over a standard deviation is multiplied by, to be right on average with few observations.

    J = G(df / 2) / (sqrt(df / 2) G((df - 1) / 2)), about 1 - 3 / (4 df - 1). Source: Hedges 1981.

    Args:
        degrees_of_freedom: of the standard deviation, 2 at least: with one the average is not finite.
    """
    half = degrees_of_freedom / 2
    return math.exp(float(gammaln(half)) - float(gammaln(half - 0.5)) - 0.5 * math.log(half))
