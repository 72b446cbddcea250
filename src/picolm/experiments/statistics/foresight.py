"""Whether an experiment has enough seeds for its claim, said before the first run."""

from __future__ import annotations

from picolm.experiments.statistics.direction import Direction, check_claim
from picolm.experiments.statistics.estimate import Estimate
from picolm.experiments.statistics.power import SeedCount, seeds_needed, seeds_to_settle, smallest_detectable

_FAR = 2.0
"""Without a spread to go by, effects that must clear the threshold by more than so many sds are said to be a lot."""


def too_few_seeds(
    seeds: int,
    direction: Direction,
    smallest_effect: float,
    *,
    sd: float | None = None,
    predictions: int = 1,
    power: float = 0.8,
    alpha: float = 0.05,
) -> str | None:
    """Say so where an experiment could hardly end in a verdict.

    Enough are those that refute a change which does nothing and support one of twice the smallest effect, as often as
    `power` says; for `same`, those that support a change which does nothing.

    Args:
        seeds: planned, of each arm.
        direction: that is predicted.
        smallest_effect: that matters; 0 leaves open how far the effect may lie from it, and is judged without `sd`.
        sd: of seed-paired differences, from earlier runs; None where nothing is known.
        predictions: in the family; each must do with its share of alpha in the worst case.
        power: how often the verdict should fall.
        alpha: of the two-sided interval, for the family.

    Returns:
        One sentence, or None where the seeds are enough.

    Raises:
        PicoLMError: no such direction, or a number that makes no sense.
    """
    check_claim(direction, smallest_effect)
    assert predictions >= 1
    if seeds < 2:
        return f"{seeds} seed gives no interval, so that no verdict can fall: take 2 or more, better 5"
    alpha = alpha / predictions
    if sd is None or smallest_effect == 0:
        far = smallest_detectable(seeds, 1.0, power=power, alpha=alpha)
        if far <= _FAR:
            return None
        return (
            f"{seeds} seeds tell an effect only where it lies {far:.1f} standard deviations of paired differences or "
            f"more from the threshold, at a power of {power:.0%}; smaller ones take more seeds"
        )
    needed = _needed(direction, smallest_effect, sd, power, alpha)
    if needed.seeds is not None and needed.seeds <= seeds:
        return None
    return (
        f"{seeds} seeds are too few for a smallest effect of {smallest_effect:g} with a standard deviation of paired "
        f"differences of {sd:g}: a verdict at a power of {power:.0%} takes {needed}"
    )


def _needed(direction: Direction, smallest_effect: float, sd: float, power: float, alpha: float) -> SeedCount:
    if direction != "same":
        return seeds_needed(smallest_effect, sd, power=power, alpha=alpha)
    # A standard error of one seed is a standard deviation.
    return seeds_to_settle(Estimate(0.0, 1, sd, 1), "same", smallest_effect, power=power, tail=alpha / 2)
