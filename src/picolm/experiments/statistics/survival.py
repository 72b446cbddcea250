"""Times to a value that some runs never reach: Kaplan-Meier, and a paired test that is exact for few seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from picolm.errors import PicoLMError
from picolm.experiments.statistics.differences import PairedDifference, paired_difference
from picolm.experiments.statistics.reach import Reach
from picolm.experiments.statistics.seeds import Dropped, FloatArray, Seed, matched
from picolm.randomness import generator

# Up to so many pairs every flip of signs is tried; beyond, as many are drawn.
_EXACT_PAIRS = 16
_DRAWS = 2**16


@dataclass(frozen=True, slots=True, eq=False)
class Survival:
    """Kaplan and Meier's estimate of the share of runs that have not got there yet.

    Attributes:
        x: where runs got there, ascending [N].
        share: that is left from there on [N].
    """

    x: FloatArray
    share: FloatArray

    @property
    def median(self) -> float | None:
        """Where half of the runs or more have got there; None where that was not seen."""
        half = np.flatnonzero(self.share <= 0.5 + 1e-12)
        return float(self.x[half[0]]) if len(half) else None


@dataclass(frozen=True, slots=True)
class ReachComparison:
    """Which arm gets there first.

    Attributes:
        median_treatment: Kaplan-Meier; None where fewer than half of the runs got there.
        median_baseline: the same of the baseline.
        earlier: pairs in which the treatment got there first.
        later: pairs in which the baseline did.
        undecided: pairs in which both did at once, or the run that could tell had ended.
        p_value: two-sided, of "the arms are exchangeable within a pair".
        smallest_p: the smallest that so many pairs can give.
        log_ratio: of x, treatment over baseline, by paired t; None where one run never got there, or a place is 0.
        dropped: seeds that were left out, and why.
    """

    median_treatment: float | None
    median_baseline: float | None
    earlier: int
    later: int
    undecided: int
    p_value: float
    smallest_p: float
    log_ratio: PairedDifference | None
    dropped: tuple[Dropped, ...]


def kaplan_meier(reaches: Sequence[Reach]) -> Survival:
    """Estimate the share of runs that are still on their way.

    share(x) = product over x_i <= x of (1 - d_i / n_i): d_i got there at x_i, of n_i that were still on their way
    (a run that ended at x_i counts as on its way there).

    Args:
        reaches: one of each run.

    Raises:
        PicoLMError: there are none.

    Source:
        Kaplan and Meier 1958.
    """
    if not reaches:
        raise PicoLMError("times to reach a value need one run or more")
    x = np.array([reach.x for reach in reaches])
    reached = np.array([reach.reached for reach in reaches])
    places = np.unique(x[reached])
    at_risk = np.array([(x >= place).sum() for place in places], dtype=np.float64)
    arrived = np.array([(reached & (x == place)).sum() for place in places], dtype=np.float64)
    return Survival(places, np.asarray(np.cumprod(1 - arrived / at_risk)))


def compare_reach(treatment: Mapping[Seed, Reach], baseline: Mapping[Seed, Reach]) -> ReachComparison:
    """Compare times to a value seed by seed, with runs that never got there.

    Each run has Peto and Peto's score from the pooled Kaplan-Meier estimate S: S(x) + S(before x) - 1 where it got
    there, S(x) - 1 where it ended first. The sum over pairs of the differences of scores is compared with all 2^S
    flips of their signs (above 16 pairs, with 65,536 that are drawn): exact, if under the null the arms would end
    alike. Two pairs cannot give less than 0.5, five not less than 0.0625.

    Args:
        treatment: by seed.
        baseline: by seed.

    Raises:
        PicoLMError: no seed is in both arms.

    Source:
        Peto and Peto 1972; the paired form after O'Brien and Fleming 1987 (paired Prentice-Wilcoxon).
    """
    arms = {"treatment": treatment, "baseline": baseline}
    found = matched({name: {seed: reach.x for seed, reach in arm.items()} for name, arm in arms.items()})
    pairs = [(treatment[seed], baseline[seed]) for seed in found.seeds]
    earlier = sum(_first(one, other) for one, other in pairs)
    later = sum(_first(other, one) for one, other in pairs)
    p_value, smallest = _sign_flips(_scores([reach for pair in pairs for reach in pair]).reshape(-1, 2))
    told = all(reach.reached and reach.x > 0 for pair in pairs for reach in pair)
    logs = [{seed: math.log(arm[seed].x) for seed in found.seeds} for arm in arms.values()] if told else []
    return ReachComparison(
        median_treatment=kaplan_meier([one for one, _ in pairs]).median,
        median_baseline=kaplan_meier([other for _, other in pairs]).median,
        earlier=earlier,
        later=later,
        undecided=len(pairs) - earlier - later,
        p_value=p_value,
        smallest_p=smallest,
        log_ratio=paired_difference(logs[0], logs[1]) if told else None,
        dropped=found.dropped,
    )


def _first(one: Reach, other: Reach) -> bool:
    return one.reached and one.x < other.x


def _scores(reaches: Sequence[Reach]) -> FloatArray:
    """Peto and Peto's scores [N], high for those who get there early; they sum to 0."""
    pooled = kaplan_meier(reaches)
    shares = np.concatenate([[1.0], pooled.share])
    x = np.array([reach.x for reach in reaches])
    after = shares[np.searchsorted(pooled.x, x, side="right")]
    before = shares[np.searchsorted(pooled.x, x, side="left")]
    return np.where([reach.reached for reach in reaches], after + before - 1, after - 1)


def _sign_flips(scores: FloatArray) -> tuple[float, float]:
    """Two-sided p-value of paired scores [S, 2], and the smallest that so many pairs can give."""
    differences = scores[:, 0] - scores[:, 1]
    differences = differences[np.abs(differences) > 1e-12]
    n = len(differences)
    if not n:
        return 1.0, 1.0
    observed = abs(differences.sum()) - 1e-12
    if n <= _EXACT_PAIRS:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ differences) >= observed).mean()), 2.0 ** (1 - n)
    signs = generator(0, "sign flips").choice([-1.0, 1.0], size=(_DRAWS, n))
    as_far = int((np.abs(signs @ differences) >= observed).sum())
    return (as_far + 1) / (_DRAWS + 1), 1 / (_DRAWS + 1)
