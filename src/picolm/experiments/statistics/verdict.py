"""Verdicts: what the interval of an effect says of a prediction, alone or in a family of predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from picolm.experiments.statistics.direction import Direction, check_claim, cleared
from picolm.experiments.statistics.estimate import Estimate, Interval
from picolm.experiments.statistics.holm import Step, holm
from picolm.experiments.statistics.power import SeedCount, seeds_to_settle

Outcome = Literal["supported", "refuted", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A prediction beside what was found.

    Attributes:
        name: of the prediction.
        estimate: of the effect, treatment less baseline.
        direction: that was predicted.
        smallest_effect: that matters, in the metric's units.
    """

    name: str
    estimate: Estimate
    direction: Direction
    smallest_effect: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may be said of a claim.

    Attributes:
        claim: it is about.
        outcome: `supported` where the interval lies wholly beyond the smallest effect in the predicted direction,
            `refuted` where it lies wholly short of it or in the other direction, else `inconclusive`.
        interval: at the levels at which the outcome was decided, adjusted for the family; None of one seed.
        p_supported: p-value, adjusted for the family, of "it is not so": supported where alpha or less.
        p_refuted: p-value, adjusted, of "it is so": refuted where alpha or less.
        to_settle: how many seeds, in all, would bring a verdict; None where there is one.
    """

    claim: Claim
    outcome: Outcome
    interval: Interval | None
    p_supported: float
    p_refuted: float
    to_settle: SeedCount | None


def verdict_of(claim: Claim, *, alpha: float = 0.05, power: float = 0.8) -> Verdict:
    """Judge one prediction, such as the primary one, by its 1 - alpha interval; see `verdicts_of`."""
    return verdicts_of([claim], alpha=alpha, power=power)[0]


def verdicts_of(claims: Sequence[Claim], *, alpha: float = 0.05, power: float = 0.8) -> list[Verdict]:
    """Judge a family of predictions, such as the secondary ones, by Holm's correction.

    Two families of shifted one-sided nulls are stepped down, each by Holm at alpha / 2 a side: "short of the smallest
    effect" (rejected: supported) and "beyond it" (rejected: refuted). So one wrong `supported` or more happens no
    more often than alpha / 2, one wrong `refuted` no more often than alpha / 2 (alpha, where `same` was predicted: its
    interval may lie outside on two sides), whatever the dependence between predictions.

    Args:
        claims: the family; one with a single seed is inconclusive, and counts.
        alpha: of both sides together.
        power: for the number of seeds that would settle it.

    Returns:
        One for each claim, in the order given.

    Raises:
        PicoLMError: no such direction, or a smallest effect or error rate that is none.

    Source:
        Holm 1979. The interval of a claim is at the level its test was decided at, and agrees with the outcome; the
        intervals of a family do not cover all at once (Strassburger and Bretz 2008).
    """
    for claim in claims:
        check_claim(claim.direction, claim.smallest_effect)
    supported = holm([_p_supported(claim) for claim in claims], alpha=alpha)
    refuted = holm([_p_refuted(claim) for claim in claims], alpha=alpha)
    return [_verdict(claim, *steps, power=power) for claim, *steps in zip(claims, supported, refuted, strict=True)]


def _p_supported(claim: Claim) -> float:
    """Twice the one-sided p-value of the null that the prediction is wrong, so that it compares with alpha."""
    estimate, margin = claim.estimate, claim.smallest_effect
    if claim.direction == "same":
        return _doubled(max, estimate.p_above(-margin), estimate.p_below(margin))
    seen = estimate if claim.direction == "higher" else estimate.mirrored()
    return _doubled(max, seen.p_above(margin))


def _p_refuted(claim: Claim) -> float:
    """Twice the one-sided p-value of the null that the prediction is right."""
    estimate, margin = claim.estimate, claim.smallest_effect
    if claim.direction == "same":
        return _doubled(min, estimate.p_above(margin), estimate.p_below(-margin))
    seen = estimate if claim.direction == "higher" else estimate.mirrored()
    return _doubled(min, seen.p_below(margin))


def _doubled(choose: Callable[[list[float]], float], *p_values: float | None) -> float:
    known = [p for p in p_values if p is not None]
    return min(1.0, 2 * choose(known)) if known else 1.0


def _verdict(claim: Claim, supported: Step, refuted: Step, *, power: float) -> Verdict:
    outcome: Outcome = "supported" if supported.rejected else "refuted" if refuted.rejected else "inconclusive"
    low, high = _tails(claim.direction, outcome, supported.level / 2, refuted.level / 2)
    return Verdict(
        claim=claim,
        outcome=outcome,
        interval=claim.estimate.interval(tail_low=low, tail_high=high),
        p_supported=supported.adjusted,
        p_refuted=refuted.adjusted,
        to_settle=None if outcome != "inconclusive" else _to_settle(claim, supported, refuted, power),
    )


def _tails(direction: Direction, outcome: Outcome, support: float, refute: float) -> tuple[float, float]:
    """Errors of the lower and the upper end, at which the interval agrees with the outcome."""
    if direction == "higher":
        return support, refute
    if direction == "lower":
        return refute, support
    # Both ends decide either way; the wider interval is that of neither.
    tail = {"supported": support, "refuted": refute, "inconclusive": min(support, refute)}[outcome]
    return tail, tail


def _to_settle(claim: Claim, supported: Step, refuted: Step, power: float) -> SeedCount:
    leans = cleared(claim.estimate.value, claim.direction, claim.smallest_effect)
    tail = (supported if leans > 0 else refuted).level / 2
    return seeds_to_settle(claim.estimate, claim.direction, claim.smallest_effect, power=power, tail=tail)
