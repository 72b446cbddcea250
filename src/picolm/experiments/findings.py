"""What an experiment found: all that its report shows, as values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from picolm.experiments.plan import Plan, Prediction
from picolm.experiments.quantity import Axis, Number, Quantity
from picolm.experiments.statistics.bands import Band
from picolm.experiments.statistics.crossed import CrossedDifference
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.differences import PairedDifference
from picolm.experiments.statistics.interaction import Interaction
from picolm.experiments.statistics.noise import NoiseFloor
from picolm.experiments.statistics.survival import ReachComparison
from picolm.experiments.statistics.verdict import Verdict

State = Literal["waiting", "running", "stopped", "failed", "finished"]
"""Of a run: not begun; a process trains it; to be resumed; ended with an error; at its last step."""
Scale = Literal["difference", "log ratio"]
"""What an effect is measured in."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What runs take; of all of them together where they are several.

    Attributes:
        flops: matrix products of training.
        seconds: of the whole process, one run after another.
        disk_bytes: checkpoints, captures, reports and logs.
    """

    flops: float
    seconds: float
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of the comparison, or of the search.

    Attributes:
        name: of its directory.
        arm: its way to train.
        size: its size; empty where there is one.
        repetition: its seeds in one word; runs of two arms with the same one make a pair.
        state: how far it is.
        steps: updates that it made.
        planned_steps: updates that it is to make.
        cost: what it took so far; None where it did not begin.
        values: by `Quantity.words` what the predictions and the search ask of it; what it lacks is missing.
        notes: what is wrong with it: why it failed, what it lacks.
    """

    name: str
    arm: str
    size: str
    repetition: str
    state: State
    steps: int
    planned_steps: int
    cost: Cost | None
    values: Mapping[str, Number]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """The plan as it stood at some time.

    Attributes:
        digest: SHA-256 of it and of all configurations that it stands for.
        written: when, ISO 8601, UTC.
        changes: what differs from the version before it, one sentence each; empty of the first.
        after_runs: how many runs had begun by then: more than 0 makes the version a deviation.
    """

    digest: str
    written: str
    changes: tuple[str, ...]
    after_runs: int


@dataclass(frozen=True, slots=True)
class Judged:
    """A prediction, and what was found.

    Attributes:
        prediction: as the plan has it.
        arm: the treatment.
        against: what it was compared with.
        verdict: by the rule of contract 5; None where there is nothing to judge.
        p_value: two-sided, of "there is no effect"; None without two pairs.
        difference: paired over seeds: of the numbers; of `reaches`, of their logarithms; None where there are none. Of
            crossed seeds, all pairs with the estimate of the two-way structure.
        items: the same with items crossed with seeds, which the verdict then rests on; None where there are no items.
        interaction: of `grows`; None otherwise.
        reach: of `reaches`; None otherwise.
        noise: what seeds alone do to the number, in the baseline, on the scale of the effect; None with fewer than two.
        scale: what the effect is measured in: `difference`, or `log ratio` where a place along an axis was asked for.
        missing: why there is no verdict, or which runs are not in it yet; None where nothing is missing.
    """

    prediction: Prediction
    arm: str
    against: str
    verdict: Verdict | None
    p_value: float | None = None
    difference: PairedDifference | None = None
    items: CrossedDifference | None = None
    interaction: Interaction | None = None
    reach: ReachComparison | None = None
    noise: NoiseFloor | None = None
    scale: Scale = "difference"
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """What one arm does to one number at one size, whether a prediction asks for it or not.

    Attributes:
        words: of the number.
        arm: the treatment; the baseline itself for its noise floor alone.
        size: where; empty where there is one.
        noise: of the baseline.
        difference: treatment less baseline; None for the baseline.
        predicted: whether a prediction is about it; others are exploration.
        scale: of `noise` and `difference`: that of the number, or of its logarithm where it is a place along an axis.
    """

    words: str
    arm: str
    size: str
    noise: NoiseFloor | None
    difference: PairedDifference | None
    predicted: bool
    scale: Scale = "difference"


@dataclass(frozen=True, slots=True)
class CurvePanel:
    """The curves of one quantity at one size, arm by arm.

    Attributes:
        quantity: whose curve it is.
        words: of the curve.
        size: where; empty where there is one.
        over: the axis.
        runs: by arm and repetition, every curve.
        bands: by arm, the mean with intervals.
        differences: by treatment, the mean of paired differences with intervals.
        areas: by treatment, the difference of areas, divided by the length of the axis.
        past: of a fork, the curve of the parent up to where the arms part; None otherwise.
    """

    quantity: Quantity
    words: str
    size: str
    over: Axis
    runs: Mapping[str, Mapping[str, Curve]]
    bands: Mapping[str, Band]
    differences: Mapping[str, Band]
    areas: Mapping[str, PairedDifference]
    past: Curve | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where forked arms come from.

    Attributes:
        run: path of the parent.
        at: the step that they share.
        config_hash: of the parent.
    """

    run: str
    at: int
    config_hash: str


@dataclass(frozen=True, slots=True)
class Findings:
    """An experiment, as far as it is.

    Attributes:
        plan: as it stands now.
        versions: of the plan, oldest first; all but the first that have `after_runs` are deviations.
        differs: by `ARM` or `ARM.SIZE`, the keys in which it differs from the baseline, each with both values.
        runs: of the comparison.
        search: runs of `tune`.
        choices: by `ARM` or `ARM.SIZE`, what the search chose.
        judged: the primary prediction first, then the others as the plan has them.
        effects: noise floors and differences of all numbers that the plan names.
        panels: learning curves.
        warnings: what a reader must know: few seeds, forks that are no replicates, runs that are missing.
        lineage: of an experiment that goes on from one run.
        forecast: of all runs together, as it was before the first; None where it was not made.
        took: of all runs together.
    """

    plan: Plan
    versions: tuple[PlanVersion, ...]
    differs: Mapping[str, Mapping[str, tuple[object, object]]]
    runs: tuple[RunRecord, ...]
    search: tuple[RunRecord, ...]
    choices: Mapping[str, Mapping[str, object]]
    judged: tuple[Judged, ...]
    effects: tuple[Effect, ...]
    panels: tuple[CurvePanel, ...]
    warnings: tuple[str, ...]
    lineage: Lineage | None
    forecast: Cost | None
    took: Cost

    @property
    def complete(self) -> bool:
        """Whether every run of the comparison came to its end."""
        return all(run.state == "finished" for run in self.runs)

    @property
    def deviations(self) -> tuple[PlanVersion, ...]:
        """Versions of the plan that were written after runs had begun."""
        return tuple(version for version in self.versions if version.after_runs)

    def plain(self) -> dict[str, Any]:
        """All but the curves as plain data for JSON, in which a number that is not finite is null."""
        found: dict[str, Any] = _finite(
            {
                "name": self.plan.name,
                "claim": self.plan.claim,
                "complete": self.complete,
                "versions": [asdict(version) for version in self.versions],
                "deviations": len(self.deviations),
                "verdicts": [_plain_judged(one) for one in self.judged],
                "effects": [asdict(effect) for effect in self.effects],
                "runs": [asdict(run) for run in self.runs],
                "search": [asdict(run) for run in self.search],
                "choices": {cell: dict(values) for cell, values in self.choices.items()},
                "differs": {
                    cell: {key: list(pair) for key, pair in keys.items()} for cell, keys in self.differs.items()
                },
                "lineage": None if self.lineage is None else asdict(self.lineage),
                "warnings": list(self.warnings),
                "forecast": None if self.forecast is None else asdict(self.forecast),
                "took": asdict(self.took),
            }
        )
        return found


def _plain_judged(one: Judged) -> dict[str, Any]:
    verdict = one.verdict
    return {
        "measure": one.prediction.measure.words,
        "says": one.prediction.says,
        "primary": one.prediction.primary,
        "direction": one.prediction.direction,
        "smallest": one.prediction.smallest,
        "size": one.prediction.size,
        "arm": one.arm,
        "against": one.against,
        "scale": one.scale,
        "outcome": None if verdict is None else verdict.outcome,
        "estimate": None if verdict is None else verdict.claim.estimate.value,
        "seeds": None if verdict is None else verdict.claim.estimate.seeds,
        "interval": None if verdict is None or verdict.interval is None else asdict(verdict.interval),
        "p_value": one.p_value,
        "p_supported": None if verdict is None else verdict.p_supported,
        "p_refuted": None if verdict is None else verdict.p_refuted,
        "to_settle": None if verdict is None or verdict.to_settle is None else asdict(verdict.to_settle),
        "hedges_gz": None if one.difference is None else one.difference.hedges_gz,
        "in_noise_sds": None if one.difference is None else one.difference.in_noise_sds,
        "missing": one.missing,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
