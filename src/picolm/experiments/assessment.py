"""From the folder of an experiment to its findings, at any stage: before the first run, while runs go on, at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from picolm.errors import PicoLMError
from picolm.evaluation.progress import Progress
from picolm.experiments.design import Design
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
    nothing is known yet count as inconclusive: a verdict can only become milder by what is still to come.

    Args:
        folder: of the experiment.
        progress: told how many runs were read.

    Raises:
        PicoLMError: the plan that was kept is damaged.
    """
    design = folder.design()
    plan, choices = design.plan, folder.choices()
    wanted = Wanted(numbers_of(plan), curves_of(plan))
    searched, compared = design.search(), design.comparison(choices)
    observer = Observer(folder, wanted)
    observations: list[Observation] = []
    for place, run in enumerate([*searched, *compared], start=1):
        observations.append(observer.observe(run))
        if progress is not None:
            progress("reading runs", place, len(searched) + len(compared))
    search, comparison = observations[: len(searched)], observations[len(searched) :]
    evidence = Evidence(comparison)
    judged = Judge(design, evidence).judged()
    return Findings(
        plan=plan,
        versions=folder.versions(),
        differs=_differs(design),
        runs=tuple(one.record for one in comparison),
        search=tuple(one.record for one in search),
        choices={_cell(arm, size): chosen for (arm, size), chosen in (choices or {}).items()},
        judged=judged,
        effects=effects_of(design, evidence, wanted.numbers.values()),
        panels=panels_of(design, evidence, wanted.curves),
        warnings=warnings_of(design, folder, comparison, judged),
        lineage=_lineage(plan, folder, compared_names=[run.name for run in compared]),
        forecast=folder.forecast(),
        took=_total(observations),
    )


def numbers_of(plan: Plan) -> dict[str, Quantity]:
    """The numbers that a plan names, by their words: those of its predictions, and what its search is chosen by."""
    named = [one.measure for one in plan.predictions] + ([plan.tune.measure] if plan.tune is not None else [])
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


def _lineage(plan: Plan, folder: ExperimentFolder, compared_names: Sequence[str]) -> Lineage | None:
    if plan.fork is None:
        return None
    try:
        parent = folder.parent()
        if parent is not None:
            return Lineage(str(parent.path), plan.fork.at, str(parent.identity["config_hash"]))
    except PicoLMError:
        # It is gone; its forks still say what it was.
        pass
    origins = (run.identity["parent"] for name in compared_names if (run := folder.run(name)) is not None)
    origin = next((origin for origin in origins if isinstance(origin, dict)), {})
    return Lineage(plan.fork.run, plan.fork.at, str(origin.get("config_hash", "")))
