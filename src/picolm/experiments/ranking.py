"""Which point of a sweep is best, and which others seeds cannot tell from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from picolm.experiments.findings import RunRecord
from picolm.experiments.plan import THE_SIZE, Plan
from picolm.experiments.space import Point
from picolm.experiments.statistics.differences import paired_difference
from picolm.experiments.statistics.estimate import Interval
from picolm.experiments.statistics.seeds import mean_over_seeds
from picolm.experiments.sweep import Choose


@dataclass(frozen=True, slots=True)
class Ranked:
    """A point at one size, and how it did.

    Attributes:
        arm: its name.
        point: its values.
        mean: over the seeds that have a number; None where none has.
        sd: over seeds, with n - 1; None with fewer than two.
        n: seeds that have a number.
        n_planned: seeds in all.
        failed: runs that ended with an error or a number that is none.
        censored: runs that never came to the value that was to be reached.
        behind: how much worse it is than the best, on the seeds that both have; negative only where it lacks some.
            None of the best itself, and where they share none.
        interval: of `behind`; None with fewer than two seeds in common.
    """

    arm: str
    point: Point
    mean: float | None
    sd: float | None
    n: int
    n_planned: int
    failed: int
    censored: int
    behind: float | None = None
    interval: Interval | None = None

    @property
    def whole(self) -> bool:
        """Whether every seed has a number, so that it may be compared with other points."""
        return self.n == self.n_planned > 0

    @property
    def told_apart(self) -> bool:
        """Whether its interval to the best lies wholly above 0."""
        return self.interval is not None and self.interval.low > 0


@dataclass(frozen=True, slots=True)
class Ranking:
    """The points of a sweep at one size.

    Attributes:
        size: where; empty where there is one.
        measure: what ranks them, in words.
        choose: lowest or highest.
        points: whole ones first, best first; then those that lack seeds; then those without any number.
    """

    size: str
    measure: str
    choose: Choose
    points: tuple[Ranked, ...]

    @property
    def best(self) -> Ranked | None:
        """The first of those of which every seed has a number; None where there is none."""
        return self.points[0] if self.points and self.points[0].whole else None

    @property
    def as_good(self) -> list[str]:
        """Points that seeds cannot tell from the best."""
        return [one.arm for one in self.points[1:] if one.whole and not one.told_apart] if self.best else []

    def plain(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        best = self.best
        return {
            "size": self.size,
            "measure": self.measure,
            "choose": self.choose,
            "best": None if best is None else best.arm,
            "as_good": self.as_good,
            "points": [
                {
                    **{key: value for key, value in asdict(one).items() if key != "interval"},
                    "interval": None if one.interval is None else [one.interval.low, one.interval.high],
                }
                for one in self.points
            ],
        }


def rankings(plan: Plan, runs: Sequence[RunRecord]) -> list[Ranking]:
    """Rank the points of a sweep, size by size.

    A mean over fewer seeds than others have is not compared with theirs, and neither is one of runs that never
    reached the value that was asked for. The best of many is too good on the seeds that chose it.

    Args:
        plan: a sweep with the points that were tried as its arms.
        runs: theirs; `values` holds what `sweep.measure` asks for, where it is known.
    """
    assert plan.sweep is not None, "only a sweep has points"
    words, choose = plan.sweep.measure.words, plan.sweep.choose
    found = []
    for size in plan.sizes or [THE_SIZE]:
        cells = {arm: [run for run in runs if (run.arm, run.size) == (arm, size)] for arm in plan.arms}
        values = {arm: _numbers(cell, words) for arm, cell in cells.items()}
        points = [_ranked(plan, arm, cells[arm], values[arm]) for arm in plan.arms]
        ordered = sorted(points, key=lambda one: _place(one, choose))
        found.append(Ranking(size, words, choose, tuple(_beside_best(ordered, values, choose, 1 - plan.confidence))))
    return found


def value_of(plan: Plan, runs: Sequence[RunRecord]) -> float | None:
    """What a proposer of points is told of one point: the mean over sizes of the means over seeds.

    Args:
        plan: the sweep.
        runs: all runs of the point.

    Returns:
        None where a run has no number, or only says that it never reached what was asked for: the point failed.
    """
    assert plan.sweep is not None, "only a sweep has points"
    means = []
    for size in plan.sizes or [THE_SIZE]:
        cell = [run for run in runs if run.size == size]
        numbers = _numbers(cell, plan.sweep.measure.words)
        if not cell or len(numbers) < len(cell):
            return None
        means.append(sum(numbers.values()) / len(numbers))
    return sum(means) / len(means)


def _numbers(runs: Sequence[RunRecord], words: str) -> dict[int | str, float]:
    """By repetition, the numbers that may be compared: those of runs that came to their end."""
    found: dict[int | str, float] = {}
    for run in runs:
        number = run.values.get(words)
        if run.state == "finished" and number is not None and not number.censored and math.isfinite(number.value):
            found[run.repetition] = number.value
    return found


def _ranked(plan: Plan, arm: str, runs: Sequence[RunRecord], values: Mapping[int | str, float]) -> Ranked:
    assert plan.sweep is not None
    numbers = [run.values.get(plan.sweep.measure.words) for run in runs if run.state == "finished"]
    censored = sum(number is not None and number.censored for number in numbers)
    broken = sum(number is not None and not number.censored and not math.isfinite(number.value) for number in numbers)
    mean, error = mean_over_seeds(np.array([*values.values()])) if values else (None, None)
    return Ranked(
        arm=arm,
        point=dict(plan.arms[arm].set),
        mean=mean,
        sd=None if error is None else error * math.sqrt(len(values)),
        n=len(values),
        n_planned=len(runs),
        failed=broken + sum(run.state == "failed" for run in runs),
        censored=censored,
    )


def _place(one: Ranked, choose: Choose) -> tuple[bool, bool, float]:
    """Whole ones first, best first; points that are equal stay in the order of the plan."""
    mean = math.inf if one.mean is None else one.mean if choose == "lowest" else -one.mean
    return one.mean is None, not one.whole, mean


def _beside_best(
    points: Sequence[Ranked], values: Mapping[str, Mapping[int | str, float]], choose: Choose, alpha: float
) -> list[Ranked]:
    if not points or not points[0].whole:
        return list(points)
    best = values[points[0].arm]
    return [points[0], *(_behind(one, values[one.arm], best, choose, alpha) for one in points[1:])]


def _behind(
    one: Ranked, own: Mapping[int | str, float], best: Mapping[int | str, float], choose: Choose, alpha: float
) -> Ranked:
    if not own.keys() & best.keys():
        return one
    worse, better = (own, best) if choose == "lowest" else (best, own)
    estimate = paired_difference(worse, better).estimate
    return replace(one, behind=estimate.value, interval=estimate.interval(alpha))
