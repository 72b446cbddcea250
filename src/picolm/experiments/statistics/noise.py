"""The noise floor: what seeds alone do to a number, before anything is changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import gammaincinv

from picolm.errors import PicoLMError
from picolm.experiments.statistics.estimate import Estimate, check_alpha
from picolm.experiments.statistics.seeds import Dropped, Seed, matched, mean_over_seeds

ENOUGH_SEEDS = 8
"""From here on a standard deviation is known to a factor of about two; with 3 seeds, to a factor of six upwards."""


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Mean and spread of one number over the baseline's seeds.

    Attributes:
        estimate: the mean with its uncertainty.
        sd: standard deviation over seeds, with n - 1.
        sd_low: lower end of its interval.
        sd_high: upper end.
        seeds: that were used.
        dropped: seeds that were left out, and why.
    """

    estimate: Estimate
    sd: float
    sd_low: float
    sd_high: float
    seeds: tuple[Seed, ...]
    dropped: tuple[Dropped, ...]

    @property
    def unpaired_difference_sd(self) -> float:
        """Spread of a difference between two runs that share no seed, sqrt(2) sd: a guess before pairs are known."""
        return math.sqrt(2) * self.sd

    @property
    def warning(self) -> str | None:
        """What to tell who reads it, where the seeds are few."""
        n = len(self.seeds)
        if n >= ENOUGH_SEEDS:
            return None
        return f"the noise floor comes from {n} seeds; take {ENOUGH_SEEDS} or more where they can be afforded"


def noise_floor(baseline: Mapping[Seed, float], *, alpha: float = 0.05) -> NoiseFloor:
    """Measure what seeds alone do to a number.

    The interval of the standard deviation is sd sqrt((n - 1) / chi2), with chi2 the 1 - alpha / 2 and alpha / 2
    quantiles at n - 1 degrees of freedom. It takes values to be normal over seeds and is wrong for heavy tails.

    Args:
        baseline: value by seed.
        alpha: how often the interval may miss.

    Raises:
        PicoLMError: fewer than two seeds have a finite value.
    """
    check_alpha(alpha)
    found = matched({"baseline": baseline})
    values = found.values[0]
    mean, error = mean_over_seeds(values)
    n = len(values)
    if error is None:
        raise PicoLMError(
            f"a noise floor needs two seeds of the baseline or more ({ENOUGH_SEEDS} where affordable), not {n}"
        )
    sd = error * math.sqrt(n)
    df = n - 1
    low, high = (sd * math.sqrt(df / (2 * float(gammaincinv(df / 2, p)))) for p in (1 - alpha / 2, alpha / 2))
    return NoiseFloor(Estimate(mean, n, error, df), sd, low, high, found.seeds, found.dropped)
