"""Predictions about when a value is reached: ratios of places along an axis, and runs that never got there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from picolm.experiments.quantity import Number
from picolm.experiments.statistics.direction import Direction
from picolm.experiments.statistics.power import SeedCount
from picolm.experiments.statistics.reach import Reach
from picolm.experiments.statistics.seeds import Seed
from picolm.experiments.statistics.verdict import Claim, Verdict

Bounds = tuple[float, float]
"""Between which the log ratio of a pair lies; infinite where a run that never got there leaves it open."""


def log_margin(direction: Direction, smallest: float) -> float:
    """The smallest effect on the scale of log ratios, from a share: 0.05 is 5 % sooner, or later.

    Args:
        direction: `lower` is sooner: -log(1 - share). `higher`, and `same`, whose two sides are equally far: log(1 +
            share).
        smallest: the share.
    """
    return -math.log1p(-smallest) if direction == "lower" else math.log1p(smallest)


def log_place(number: Number) -> float:
    """The logarithm of a place above 0 that was reached."""
    assert not number.censored and number.value > 0
    return math.log(number.value)


def as_reaches(numbers: Mapping[Seed, Number]) -> dict[Seed, Reach]:
    """Places as the comparison of arms takes them."""
    return {seed: Reach(number.value, not number.censored) for seed, number in numbers.items()}


def bounds(treatment: Mapping[Seed, Number], baseline: Mapping[Seed, Number]) -> list[Bounds]:
    """Between which the log ratio of each pair lies, treatment over baseline."""
    return [_bounds(treatment[seed], baseline[seed]) for seed in treatment if seed in baseline]


def agreed(claim: Claim, pairs: Sequence[Bounds], independent: int, *, alpha: float, predictions: int) -> Verdict:
    """Judge a prediction where a run never got there, so that no mean of log ratios exists.

    Supported where every pair, as far as its runs tell, lies beyond the smallest effect; refuted where every pair lies
    short of it; by the exact sign test of that threshold, whose p-value is 2^(1 - n) where n pairs agree: with fewer
    than 6 of them there is no verdict at 0.05. Each prediction of a family has its equal share of alpha.

    Args:
        claim: whose estimate has no error.
        pairs: of all repetitions.
        independent: how many of them share no seed.
        alpha: of both sides together.
        predictions: in the family.
    """
    chance = min(1.0, predictions * 2.0 ** (1 - independent)) if pairs else 1.0
    beyond, short = _beyond(claim, pairs), _short(claim, pairs)
    p_supported, p_refuted = (chance if all_agree else 1.0 for all_agree in (beyond, short))
    decided = chance <= alpha and (beyond or short)
    return Verdict(
        claim=claim,
        outcome=("supported" if beyond else "refuted") if decided else "inconclusive",
        interval=None,
        p_supported=p_supported,
        p_refuted=p_refuted,
        to_settle=None if decided else SeedCount(None, "longer runs: some never reached the value"),
    )


def _bounds(treatment: Number, baseline: Number) -> Bounds:
    if treatment.value <= 0 or baseline.value <= 0:
        # A place at the very beginning has no logarithm; one alone decides which came first.
        first = treatment.value < baseline.value and not treatment.censored
        last = baseline.value < treatment.value and not baseline.censored
        return (-math.inf, -math.inf) if first else (math.inf, math.inf) if last else (-math.inf, math.inf)
    ratio = math.log(treatment.value / baseline.value)
    return -math.inf if baseline.censored else ratio, math.inf if treatment.censored else ratio


def _beyond(claim: Claim, pairs: Sequence[Bounds]) -> bool:
    margin = claim.smallest_effect
    if claim.direction == "same":
        return all(-margin < low and high < margin for low, high in pairs)
    return all(low > margin if claim.direction == "higher" else high < -margin for low, high in pairs)


def _short(claim: Claim, pairs: Sequence[Bounds]) -> bool:
    margin = claim.smallest_effect
    if claim.direction == "same":
        return all(low > margin for low, _ in pairs) or all(high < -margin for _, high in pairs)
    return all(high < margin if claim.direction == "higher" else low > -margin for low, high in pairs)
