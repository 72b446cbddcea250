"""Plans of experiments against the rest of the house: their interventions are loaded, their runs are forecast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from picolm.assembly.training import forecast
from picolm.config.loading import build_config
from picolm.data.preparation import Progress
from picolm.errors import PicoLMError
from picolm.experiments.design import Design, base_of
from picolm.experiments.findings import Cost
from picolm.experiments.outline import Outline
from picolm.experiments.plan import Plan
from picolm.experiments.reading import plan_path, read_plan
from picolm.runs.directory import RunDirectory


def outline(path: Path | str, *, trusted: Sequence[str] = (), progress: Progress | None = None) -> Outline:
    """Find out what a plan comes to; the data of its arms are prepared for that, nothing else is written.

    Args:
        path: the plan.
        trusted: interventions outside of PicoLM whose code may run.
        progress: who is told while data are prepared.

    Raises:
        PicoLMError: the plan, a configuration, an intervention or the data are wrong.
    """
    path = plan_path(Path(path))
    plan = read_plan(path)
    parent = parent_of(plan, path.parent)
    design = Design(plan, base_of(plan, path.parent) if parent is None else build_config(parent.identity["config"]))
    # Every value of a search is a configuration too: a wrong one must not show after hours.
    design.search()
    if plan.sweep is not None:
        design = Design(plan.with_points(plan.sweep.stand_ins()), design.base)
    costs: dict[tuple[str, str], Cost] = {}
    for arm, size in design.cells:
        found = forecast(design.config(arm, size), progress, trusted=trusted)
        costs[arm, size] = Cost(found.flops, found.seconds, found.disk_bytes + found.capture_bytes)
    return Outline(design, costs)


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
