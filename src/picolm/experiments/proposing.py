"""Which points a sweep tries next, given what is known by then."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from picolm.errors import PicoLMError
from picolm.experiments.findings import RunRecord
from picolm.experiments.plan import Plan
from picolm.experiments.ranking import value_of
from picolm.experiments.space import Dimension, Point, same
from picolm.experiments.sweep import Sweep
from picolm.experiments.trials import Trial
from picolm.randomness import derive_seed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial


class Proposer(Protocol):
    """Says which point comes next."""

    def propose(self, trials: Sequence[Trial]) -> Point:
        """The next point: a function of the trials so far and of nothing else.

        Args:
            trials: all that were proposed, those that are not finished too.
        """


def next_points(plan: Plan, trials: Sequence[Trial], n: int) -> list[Point]:
    """The points of a sweep that come next.

    The same trials always give the same points, and two at once are those that came one after the other while the
    first is not finished.

    Args:
        plan: a sweep.
        trials: all that were proposed so far, in order.
        n: how many points are wanted.

    Returns:
        `n` points, fewer where the sweep comes to its end.

    Raises:
        PicoLMError: Optuna is asked for and not installed.
    """
    assert plan.sweep is not None, "only a sweep has points"
    proposer, so_far = proposer_of(plan.sweep), list(trials)
    found: list[Point] = []
    for _ in range(max(0, min(n, plan.sweep.n_points - len(so_far)))):
        found.append(proposer.propose(so_far))
        so_far.append(Trial(len(so_far) + 1, found[-1]))
    return found


def outcomes(plan: Plan, trials: Sequence[Trial], runs: Sequence[RunRecord]) -> dict[int, float | None]:
    """What became of points that are not told of yet, and whose runs are all over.

    Args:
        plan: the sweep, with the points of all trials as its arms.
        trials: all that were proposed, in order.
        runs: of all points.

    Returns:
        By number of the trial its value (`ranking.value_of`); None where it failed.
    """
    found: dict[int, float | None] = {}
    for trial, arm in zip(trials, plan.arms, strict=True):
        own = [run for run in runs if run.arm == arm]
        if trial.state == "proposed" and own and all(run.state in ("finished", "failed") for run in own):
            found[trial.number] = value_of(plan, own)
    return found


def proposer_of(sweep: Sweep) -> Proposer:
    """What proposes the points of a sweep."""
    return Listed(sweep.points()) if sweep.optuna is None else OptunaProposer(sweep)


@dataclass(frozen=True, slots=True)
class Listed:
    """Points that are known before anything runs, one after another.

    Attributes:
        points: all of them.
    """

    points: Sequence[Point]

    def propose(self, trials: Sequence[Trial]) -> Point:
        """The first point that was not proposed."""
        return self.points[len(trials)]


class OptunaProposer:
    """Optuna, asked anew for each point by a study that is made again from the trials so far.

    So there is no study to be kept, locked or lost: what is recorded is all that there is, and the generator of its
    sampler is seeded by the number of the trial.
    """

    def __init__(self, sweep: Sweep) -> None:
        assert sweep.optuna is not None, "the sweep is not Optuna's"
        self._sweep, self._space = sweep, sweep.optuna
        try:
            self._optuna: Any = importlib.import_module("optuna")
        except ImportError:
            raise PicoLMError("a sweep by optuna needs Optuna: pip install 'picolm[optuna]'") from None
        self._distributions = {key: self._distribution(one) for key, one in self._space.items()}

    def propose(self, trials: Sequence[Trial]) -> Point:
        """What Optuna's sampler makes of the trials so far."""
        optuna = self._optuna
        # Two lines for each of its studies, which are of no meaning here.
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            direction = "minimize" if self._sweep.choose == "lowest" else "maximize"
            study = optuna.create_study(direction=direction, sampler=self._sampler(len(trials) + 1))
            study.add_trials([self._frozen(one) for one in trials if self._fits(one.point)])
            asked: dict[str, Any] = study.ask(self._distributions).params
        finally:
            optuna.logging.set_verbosity(verbosity)
        return {key: self._value(one, asked[key]) for key, one in self._space.items()}

    def _sampler(self, number: int) -> BaseSampler:
        seed = derive_seed(self._sweep.seed, "optuna", number) % 2**32
        samplers = self._optuna.samplers
        if self._sweep.sampler == "random":
            sampler: BaseSampler = samplers.RandomSampler(seed=seed)
            return sampler
        with warnings.catch_warnings():
            # Version 4 calls it an experiment that points which are still running are kept away from.
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            sampler = samplers.TPESampler(seed=seed, constant_liar=True)
        return sampler

    def _fits(self, point: Point) -> bool:
        """Whether a point is of this space; a plan that was changed leaves trials of another one."""
        return point.keys() == self._space.keys() and all(one.holds(point[key]) for key, one in self._space.items())

    def _frozen(self, trial: Trial) -> FrozenTrial:
        states = self._optuna.trial.TrialState
        state = {"proposed": states.RUNNING, "finished": states.COMPLETE, "failed": states.FAIL}[trial.state]
        params = {key: self._parameter(one, trial.point[key]) for key, one in self._space.items()}
        frozen: FrozenTrial = self._optuna.trial.create_trial(
            state=state, value=trial.value, params=params, distributions=self._distributions
        )
        return frozen

    def _distribution(self, one: Dimension) -> BaseDistribution:
        kinds = self._optuna.distributions
        made: BaseDistribution
        if one.choices is not None:
            # By place, as a choice may be a list or a section, which Optuna knows nothing of.
            made = kinds.CategoricalDistribution(tuple(range(len(one.choices))))
        else:
            made = (kinds.IntDistribution if one.integer else kinds.FloatDistribution)(*one.ends, log=one.log)
        return made

    @staticmethod
    def _parameter(one: Dimension, value: Any) -> Any:
        if one.choices is None:
            return value if one.integer else float(value)
        return next(place for place, choice in enumerate(one.choices) if same(choice, value))

    @staticmethod
    def _value(one: Dimension, parameter: Any) -> Any:
        return one.rounded(parameter) if one.choices is None else one.choices[parameter]
