"""How many seeds a claim needs, and how small an effect so many seeds can tell: from Student's t, not simulated."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammainc, gammaincinv, ndtr, stdtrit

from picolm.errors import PicoLMError
from picolm.experiments.statistics.direction import Direction, check_claim, cleared
from picolm.experiments.statistics.estimate import Estimate, check_alpha
from picolm.experiments.statistics.seeds import FloatArray

MOST_SEEDS = 1000
"""Where a count of seeds stops being looked for."""

# Gauss-Legendre on (0, 1): the chances below come out to about 1e-6.
_NODES, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(256))
_NODES = _NODES + 0.5


@dataclass(frozen=True, slots=True)
class SeedCount:
    """A number of seeds, or why there is none.

    Attributes:
        seeds: how many; None where more than were tried would be needed, or no number would do.
        reason: in place of a number, in words.
    """

    seeds: int | None
    reason: str = ""

    def __str__(self) -> str:
        return self.reason if self.seeds is None else f"{self.seeds:,} seeds"


@dataclass(frozen=True, slots=True)
class Spread:
    """What stands between an effect and its estimate.

    Attributes:
        sd: of seed-paired differences over seeds.
        item_error: standard error over items, which seeds do not lessen.
        item_degrees_of_freedom: of `item_error`.
    """

    sd: float
    item_error: float = 0.0
    item_degrees_of_freedom: float = math.inf


def chance_beyond(gap: float, spread: Spread, seeds: int, *, tail: float = 0.025) -> float:
    """How often the near end of the interval lies beyond a threshold: the power of the one-sided test.

    Without items it is P(T > t) of the noncentral t with gap sqrt(n) / sd; here as the mean, over what the spread of
    n seeds may come out as, of a normal probability, so that an error over items has its place.

    Args:
        gap: from the threshold to the true effect, positive where it lies beyond.
        spread: of the differences.
        seeds: n, 2 at least.
        tail: error of that end.

    Returns:
        From 0 to 1.
    """
    sigma = math.hypot(spread.sd / math.sqrt(seeds), spread.item_error)
    if sigma == 0:
        return float(gap > 0)
    return float(_WEIGHTS @ ndtr((gap - _half_widths(_variances(seeds - 1), spread, seeds, tail)) / sigma))


def chance_within(effect: float, margin: float, spread: Spread, seeds: int, *, tail: float = 0.025) -> float:
    """How often the interval lies wholly within +- a margin: the power of the two one-sided tests.

    Args:
        effect: the true one.
        margin: positive.
        spread: of the differences.
        seeds: n, 2 at least.
        tail: error of either end.

    Returns:
        From 0 to 1.
    """
    sigma = math.hypot(spread.sd / math.sqrt(seeds), spread.item_error)
    if sigma == 0:
        return float(abs(effect) < margin)
    most = _narrower_than(margin, spread, seeds, tail)
    df = seeds - 1
    variances = np.asarray(2 * gammaincinv(df / 2, most * _NODES) / df)
    room = margin - _half_widths(variances, spread, seeds, tail)
    return float(most * _WEIGHTS @ (ndtr((room - effect) / sigma) - ndtr((-room - effect) / sigma)))


def seeds_needed(gap: float, sd: float, *, power: float = 0.8, alpha: float = 0.05) -> SeedCount:
    """How many seeds tell a gap between the true effect and the threshold, asked before the run.

    With the smallest effect that matters as the gap, so many seeds refute a change that does nothing, and support
    one of twice the smallest effect, as often as `power` says.

    Args:
        gap: from the smallest effect to the effect that is expected, either way.
        sd: of seed-paired differences; without pairs yet, `NoiseFloor.unpaired_difference_sd` is an upper guess.
        power: how often the verdict should fall.
        alpha: of the two-sided interval.

    Raises:
        PicoLMError: `power` or `alpha` is not between 0 and 1, or a number is not finite or is negative.
    """
    _check(sd, power, alpha)
    if gap == 0:
        return SeedCount(None, "no number of seeds tells an effect that sits at the threshold")
    return _fewest(lambda seeds: chance_beyond(abs(gap), Spread(sd), seeds, tail=alpha / 2), power)


def smallest_detectable(seeds: int, sd: float, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest gap between true effect and threshold that so many seeds tell, asked before the run.

    Args:
        seeds: n, 2 at least.
        sd: of seed-paired differences.
        power: how often the verdict should fall.
        alpha: of the two-sided interval.

    Raises:
        PicoLMError: as `seeds_needed`, or fewer than two seeds.
    """
    _check(sd, power, alpha)
    if seeds < 2:
        raise PicoLMError(f"one seed tells no effect from noise: give 2 seeds or more, not {seeds}")
    if sd == 0:
        return 0.0
    unit = Spread(1.0)
    # So far that it is told almost surely, even by two seeds.
    far = 100 * float(-stdtrit(seeds - 1, min(alpha, 1 - power) / 2)) + 100
    return sd * float(brentq(lambda gap: chance_beyond(gap, unit, seeds, tail=alpha / 2) - power, 0.0, far))


def seeds_to_settle(
    estimate: Estimate, direction: Direction, smallest_effect: float, *, power: float = 0.8, tail: float = 0.025
) -> SeedCount:
    """How many seeds, in all, would bring a verdict, were the estimate and its spread the truth.

    It is only as good as the estimate: near the threshold, or from three seeds, take it as an order of magnitude.

    Args:
        estimate: what was found.
        direction: that was predicted.
        smallest_effect: that matters.
        power: how often the verdict should fall.
        tail: error of either end of the interval.

    Raises:
        PicoLMError: no such direction, or the smallest effect fits it not.
    """
    check_claim(direction, smallest_effect)
    if estimate.seed_error is None:
        return SeedCount(None, "one seed does not say how many are needed")
    gap = cleared(estimate.value, direction, smallest_effect)
    if gap == 0:
        return SeedCount(None, "no number of seeds: the estimate sits at the threshold")
    sd = estimate.seed_error * math.sqrt(estimate.seeds)
    spread = Spread(sd, estimate.item_error, estimate.item_degrees_of_freedom)

    def chance(seeds: int) -> float:
        if direction == "same" and gap > 0:
            return chance_within(estimate.value, smallest_effect, spread, seeds, tail=tail)
        return chance_beyond(abs(gap), spread, seeds, tail=tail)

    if estimate.item_error and chance(10**6) < power:
        return SeedCount(None, "no number of seeds: it needs more items")
    return _fewest(chance, power)


def _fewest(chance: Callable[[int], float], power: float) -> SeedCount:
    tried = range(2, MOST_SEEDS + 1)
    # More seeds never tell less.
    place = bisect.bisect_left(tried, power, key=chance)
    return SeedCount(None, f"more than {MOST_SEEDS:,} seeds") if place == len(tried) else SeedCount(tried[place])


@lru_cache(maxsize=128)
def _variances(degrees_of_freedom: int) -> FloatArray:
    """What a variance of 1 may come out as, at the nodes' quantiles of chi-square: the search asks for few of them."""
    return np.asarray(2 * gammaincinv(degrees_of_freedom / 2, _NODES) / degrees_of_freedom)


def _half_widths(variances: FloatArray, spread: Spread, seeds: int, tail: float) -> FloatArray:
    """Half-widths of the interval where the variance between seeds comes out as these parts of the true one."""
    by_seeds = stdtrit(seeds - 1, tail) ** 2 * spread.sd**2 / seeds
    return np.asarray(np.sqrt(by_seeds * variances + _item_half_width(spread, tail) ** 2))


def _narrower_than(margin: float, spread: Spread, seeds: int, tail: float) -> float:
    """How often the half-width comes out below a margin."""
    df, left = seeds - 1, margin**2 - _item_half_width(spread, tail) ** 2
    if left <= 0:
        return 0.0
    if spread.sd == 0:
        return 1.0
    return float(gammainc(df / 2, df / 2 * left * seeds / (stdtrit(df, tail) * spread.sd) ** 2))


def _item_half_width(spread: Spread, tail: float) -> float:
    if spread.item_error == 0:
        return 0.0
    return spread.item_error * float(-stdtrit(spread.item_degrees_of_freedom, tail))


def _check(sd: float, power: float, alpha: float) -> None:
    check_alpha(alpha)
    if not 0 < power < 1:
        raise PicoLMError(f"a power lies between 0 and 1, such as 0.8, not at {power}")
    if not 0 <= sd < math.inf:
        raise PicoLMError(f"a standard deviation is finite and not negative, not {sd}")
