"""How far an experiment is: a few figures for each run, cheaply, while it is being made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from picolm.experiments.design import PlannedRun
from picolm.experiments.findings import State
from picolm.experiments.folder import ExperimentFolder
from picolm.runs.directory import RunDirectory
from picolm.runs.log import last_line


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far one run is.

    Attributes:
        name: of the run.
        state: waiting, running, stopped, failed or finished.
        step: updates whose time was recorded; 0 before the first.
        steps: updates that it is to make.
        tokens_per_second: at last; None before the first record.
        log: what its processes printed.
    """

    name: str
    state: State
    step: int
    steps: int
    tokens_per_second: float | None
    log: str


def status_of(folder: ExperimentFolder) -> list[RunStatus]:
    """Look at all runs of a plan: those of its search first, those of the comparison once their configuration is known.

    Raises:
        PicoLMError: the plan was damaged.
    """
    design, launches = folder.design(), folder.launches()
    runs = [*design.search(), *design.comparison(folder.choices())]
    return [_status(folder, run, folder.state(run, launches)) for run in runs]


def progress_of(folder: ExperimentFolder, run: PlannedRun) -> tuple[int, float | None]:
    """The last step that a run recorded the time of, and its tokens per second then."""
    line = last_line(RunDirectory(folder.run_path(run.name)).timings_path) or {}
    return int(line.get("step", 0)), line.get("tokens_per_second")


def plain_status(folder: ExperimentFolder, found: Sequence[RunStatus]) -> dict[str, Any]:
    """The same as plain data for JSON."""
    counts: dict[str, int] = {}
    for run in found:
        counts[run.state] = counts.get(run.state, 0) + 1
    return {"path": str(folder.path), "states": counts, "runs": [asdict(run) for run in found]}


def _status(folder: ExperimentFolder, run: PlannedRun, state: State) -> RunStatus:
    step, speed = progress_of(folder, run)
    done = run.config.training.steps if state == "finished" else step
    return RunStatus(run.name, state, done, run.config.training.steps, speed, str(folder.log_path(run.name)))
