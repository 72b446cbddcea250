"""From the folder of an experiment to its findings, at any stage: before the first run, half way, at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from picolm.errors import PicoLMError
from picolm.evaluation.progress import Progress
from picolm.experiments.design import Design, PlannedRun
from picolm.experiments.effects import effects_of
from picolm.experiments.evidence import Evidence
from picolm.experiments.findings import Cost, Findings, Lineage
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.judging import Judge
from picolm.experiments.observation import Observation, Observer, Wanted
from picolm.experiments.outline import Outline
from picolm.experiments.panels import curves_of, panels_of
from picolm.experiments.plan import Plan
from picolm.experiments.quantity import Quantity
from picolm.experiments.remarks import warnings_of


def assess(folder: ExperimentFolder, progress: Progress | None = None) -> Findings:
    """Find out what an experiment shows.

    Every run is read once. The primary prediction is judged alone, the others as one family, in which those of which
    nothing is known yet count as inconclusive: the family does not grow while runs come in.

    Args:
        folder: of the experiment.
        progress: told how many runs were read.

    Raises:
        PicoLMError: the plan that was kept is damaged.
    """
    design = folder.design()
    plan, choices = design.plan, folder.choices() or {}
    wanted = Wanted(numbers_of(plan), curves_of(plan))
    told = _Told(progress, len(design.search()) + len(design.comparison()))
    tuned = {} if plan.tune is None else {plan.tune.measure.words: plan.tune.measure}
    search = told.observe(Observer(folder, Wanted(tuned)), design.search())
    comparison = told.observe(Observer(folder, wanted), design.comparison(choices or None))
    evidence = Evidence(comparison)
    judged = Judge(design, evidence).judged()
    return Findings(
        plan=plan,
        versions=folder.versions(),
        differs=_differs(design),
        runs=tuple(one.record for one in comparison),
        search=tuple(one.record for one in search),
        choices={_cell(arm, size): chosen for (arm, size), chosen in choices.items()},
        judged=judged,
        effects=effects_of(design, evidence, wanted.numbers.values()),
        panels=panels_of(design, evidence, wanted.curves),
        warnings=warnings_of(design, folder, comparison, judged, choices),
        lineage=_lineage(plan, folder, [one.record.name for one in comparison]),
        forecast=folder.forecast(),
        took=_total([*search, *comparison]),
    )


class _Told:
    """Reads runs, and tells how many it has read."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def observe(self, observer: Observer, runs: Iterable[PlannedRun]) -> list[Observation]:
        found = []
        for run in runs:
            found.append(observer.observe(run))
            self._done += 1
            if self._progress is not None:
                self._progress("experiment, runs read", self._done, self._total)
        return found


def numbers_of(plan: Plan) -> dict[str, Quantity]:
    """The numbers that a plan names, by their words: of its predictions, its search, its sweep, and what it shows."""
    named = [*(one.measure for one in plan.predictions), *plan.show]
    named += [asked.measure for asked in (plan.tune, plan.sweep) if asked is not None]
    return {quantity.words: quantity for quantity in named}


def _differs(design: Design) -> dict[str, Mapping[str, tuple[object, object]]]:
    outline = Outline(design, {})
    return {
        _cell(arm, size): {change.key: (change.left, change.right) for change in outline.changes(arm, size)}
        for arm, size in design.cells
        if arm != design.plan.control
    }


def _cell(arm: str, size: str) -> str:
    return f"{arm}.{size}" if size else arm


def _total(observations: Iterable[Observation]) -> Cost:
    costs = [one.record.cost for one in observations if one.record.cost is not None]
    return Cost(
        sum(cost.flops for cost in costs), sum(cost.seconds for cost in costs), sum(cost.disk_bytes for cost in costs)
    )


def _lineage(plan: Plan, folder: ExperimentFolder, names: Sequence[str]) -> Lineage | None:
    if plan.fork is None:
        return None
    try:
        parent = folder.parent()
        if parent is not None:
            return Lineage(str(parent.path), plan.fork.at, str(parent.identity["config_hash"]))
    except PicoLMError:
        # It is gone; its forks still say what it was.
        pass
    origins = (run.identity["parent"] for name in names if (run := folder.run(name)) is not None)
    origin = next((origin for origin in origins if isinstance(origin, dict)), {})
    return Lineage(plan.fork.run, plan.fork.at, str(origin.get("config_hash", "")))
