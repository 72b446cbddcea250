"""Plans of experiments against the rest of the house: their interventions are loaded, their runs are forecast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from picolm.assembly.calibrating import Cell, calibrate
from picolm.assembly.measuring import check_asked
from picolm.assembly.training import forecast
from picolm.config.loading import build_config
from picolm.config.schema import Config
from picolm.data.preparation import Progress
from picolm.errors import PicoLMError
from picolm.experiments.costing import Costing
from picolm.experiments.design import Design, Paces, base_of
from picolm.experiments.outline import Outline
from picolm.experiments.pacing import measured_paces
from picolm.experiments.plan import Plan
from picolm.experiments.reading import plan_path, read_plan
from picolm.runs.directory import RunDirectory

Paced = Callable[[Plan, Config], Paces | None]
"""Gives the paces that were kept with a plan and its base: `ExperimentFolder.paces`."""


def outline(
    path: Path | str,
    *,
    trusted: Sequence[str] = (),
    measured: bool = False,
    at_once: int | None = None,
    kept: Paced = lambda plan, base: None,
    progress: Progress | None = None,
    tell: Callable[[int, float], None] = lambda runs, seconds: None,
) -> Outline:
    """Find out what a plan comes to; the data of its arms are prepared for that.

    Args:
        path: the plan.
        trusted: interventions outside of PicoLM whose code may run.
        measured: whether short runs show what the runs take, which stays in `.picolm/calibrations`; else the time is a
            rough figure, and nothing but data is written.
        at_once: how many runs at the same time; None: as the plan says.
        kept: gives the paces of `equal: time` that were registered; they are never measured a second time.
        progress: who is told while data are prepared and short runs are made.
        tell: is told how many short runs there are to be, and about how many seconds they take.

    Raises:
        PicoLMError: the plan, a configuration, an intervention or the data are wrong; a short run failed; or time is to
            be equal and was not measured.
    """
    path = plan_path(Path(path))
    plan = read_plan(path)
    check_asked(plan.analyze)
    parent = parent_of(plan, path.parent)
    base = base_of(plan, path.parent) if parent is None else build_config(parent.identity["config"])
    # As long as the baseline: how long arms are whose time is equal is known when it was measured.
    design = Design(plan.model_copy(update={"equal": "steps"}) if plan.equal == "time" else plan, base)
    # Every value of a search is a configuration too: a wrong one must not show after hours.
    design.search()
    if plan.sweep is not None:
        design = Design(plan.with_points(plan.sweep.stand_ins()), base)
    at_once = at_once or plan.at_once
    costs = [_rough(design, arm, size, progress, trusted) for arm, size in design.cells]
    if measured and plan.sweep is not None:
        costs = _of_points(design, costs, at_once, trusted, progress, tell)
    elif measured:
        lenient = plan.equal != "time"
        cells = [_cell(design, place, cost, trusted, lenient) for place, cost in zip(design.cells, costs, strict=True)]
        costs = calibrate(cells, at_once=at_once, progress=progress, tell=tell)
    costings = dict(zip(design.cells, costs, strict=True))
    if plan.equal == "time":
        paces = kept(plan, base) or (measured_paces(design, costings) if measured else None)
        design = Design(plan, base, paces)
        design.search()
    return Outline(design, costings, at_once)


def _rough(design: Design, arm: str, size: str, progress: Progress | None, trusted: Sequence[str]) -> Costing:
    config = design.config(arm, size)
    return Costing.rough(config, forecast(config, progress, trusted=trusted))


def _cell(design: Design, place: tuple[str, str], rough: Costing, trusted: Sequence[str], lenient: bool) -> Cell:
    name = ".".join(part for part in place if part)
    return Cell(name, design.config(*place), rough, design.first, trusted, lenient)


def _of_points(
    design: Design,
    rough: Sequence[Costing],
    at_once: int,
    trusted: Sequence[str],
    progress: Progress | None,
    tell: Callable[[int, float], None],
) -> list[Costing]:
    """Costs of the points of a sweep, which are many: what there is before a point changes it is measured at each size.

    A point's step takes longer or shorter than that in the proportion that a bare forecast says.
    """
    cells = []
    for size in design.sizes:
        config = design.reference(size)
        bare = Costing.rough(config, forecast(config, progress, trusted=trusted))
        cells.append(Cell(size or "the base", config, bare, design.first, trusted))
    measured = calibrate(cells, at_once=at_once, progress=progress, tell=tell)
    by_size = dict(zip(design.sizes, zip(cells, measured, strict=True), strict=True))
    found = []
    for (_, size), own in zip(design.cells, rough, strict=True):
        cell, known = by_size[size]
        found.append(
            replace(
                known,
                flops_per_token=own.flops_per_token,
                tokens_per_step=own.tokens_per_step,
                step_seconds=known.step_seconds * own.step_seconds / cell.rough.step_seconds,
            )
        )
    return found


def parent_of(plan: Plan, folder: Path) -> RunDirectory | None:
    """The run that all arms go on from; None where each begins anew.

    Args:
        plan: the plan.
        folder: where its file stands.

    Raises:
        PicoLMError: there is no such run, or it has no state at that step.
    """
    if plan.fork is None:
        return None
    beside = folder / plan.fork.run
    parent = RunDirectory.open(beside if beside.is_dir() else Path(plan.fork.run))
    states = [item.step for item in parent.checkpoints if item.has_state]
    if plan.fork.at not in (0, *states):
        there = ", ".join(map(str, states)) or "no step"
        raise PicoLMError(
            f"run {parent.path} has no state at step {plan.fork.at} to go on from; it has states at: {there}"
        )
    return parent
