"""Experiments are carried out: the plan is kept, its runs are made by processes of their own, the page is written."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from picolm.assembly.experimenting import outline, parent_of
from picolm.assembly.forking import fork
from picolm.assembly.training import resume, train
from picolm.data.preparation import Progress
from picolm.errors import PicoLMError, nearest
from picolm.experiments.assessment import assess
from picolm.experiments.choosing import choose
from picolm.experiments.design import Design, PlannedRun
from picolm.experiments.findings import Findings, State
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.launching import Launcher
from picolm.experiments.making import Maker, Watcher, settle
from picolm.experiments.outline import Outline
from picolm.experiments.reading import plan_path, read_plan
from picolm.report.experiment import write_experiment_report
from picolm.runs.directory import RUN_FILE, RunDirectory
from picolm.runs.durable import explained
from picolm.runs.lock import RunLock
from picolm.seams import Observer
from picolm.training.interruption import Interruption

EXPERIMENTS = Path("experiments")


@dataclass(frozen=True, slots=True)
class Made:
    """What came of making an experiment.

    Attributes:
        folder: where it stands.
        states: how far each run is, by name.
        findings: what it found, as far as it is.
    """

    folder: ExperimentFolder
    states: dict[str, State]
    findings: Findings


def place_of(path: Path, folder: Path = EXPERIMENTS) -> ExperimentFolder:
    """Where the experiment of a plan stands, whether it is there or not.

    Raises:
        PicoLMError: there is no such plan.
    """
    return ExperimentFolder(folder / read_plan(plan_path(path)).name)


def run_experiment(
    path: Path,
    launcher: Launcher,
    watcher: Watcher,
    *,
    folder: Path = EXPERIMENTS,
    at_once: int | None = None,
    trusted: Sequence[str] = (),
    progress: Progress | None = None,
    interruption: Interruption | None = None,
    tell: Callable[[Outline, ExperimentFolder], None] = lambda found, place: None,
) -> Made:
    """Make all runs of a plan that are missing, and judge its predictions.

    Args:
        path: the plan.
        launcher: starts the processes.
        watcher: is told of them.
        folder: where experiments stand.
        at_once: how many runs at the same time; None: as the plan says.
        trusted: interventions outside of PicoLM whose code may run.
        progress: who is told while data are prepared.
        interruption: holds back Ctrl-C and SIGTERM; runs are then saved, and go on the next time.
        tell: is given what the plan comes to, before anything runs.

    Raises:
        PicoLMError: the plan is wrong, or another process makes this experiment.
    """
    path = plan_path(path)
    found = outline(path, trusted=trusted, progress=progress)
    design = found.design
    parent = parent_of(design.plan, path.parent)
    place = ExperimentFolder.make(folder / design.plan.name)
    with RunLock(place.path, "experiment"), interruption or Interruption() as stop:
        place.register(design, path.read_text(encoding="utf-8"), None if parent is None else parent.path)
        if place.forecast() is None:
            place.expect(found.total)
        tell(found, place)
        many = at_once or design.plan.at_once
        maker = Maker(
            place,
            launcher,
            lambda run: command_of(place, run.name, trusted),
            at_once=many,
            watcher=watcher,
            stop=stop,
            environment=environment_of(many),
        )
        states = _made(place, design, maker, stop)
    findings = write_report(place)
    return Made(place, states, findings)


def _made(place: ExperimentFolder, design: Design, maker: Maker, stop: Interruption) -> dict[str, State]:
    """The search, what it chose, and the comparison."""
    searched = maker.make(design.search())
    if stop.signal is not None:
        return searched
    if design.plan.tune is not None and place.choices() is None:
        # One that failed counts as chosen by nobody, but one that was stopped might have been the best.
        unfinished = [name for name, state in searched.items() if state not in ("finished", "failed")]
        if unfinished:
            raise PicoLMError(f"the search is not over: {', '.join(unfinished)} did not end; run the experiment again")
        place.choose(choose(place, design))
    return {**searched, **maker.make(design.comparison(place.choices()))}


def write_report(place: ExperimentFolder) -> Findings:
    """Judge an experiment as far as it is, and write its page."""
    findings = assess(place)
    write_experiment_report(findings, place.report_path)
    return findings


def command_of(place: ExperimentFolder, run: str, trusted: Sequence[str] = ()) -> list[str]:
    """What makes one run of an experiment, or goes on with it; it may be called again and again."""
    named = [word for name in trusted for word in ("--with", name)]
    return [sys.executable, "-m", "picolm", "experiment", "one", str(place.path), run, *named]


def environment_of(at_once: int) -> dict[str, str]:
    """Variables that give each of several processes its share of the cores."""
    if at_once == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // at_once))}


def make_one(
    place: ExperimentFolder,
    name: str,
    *,
    trusted: Sequence[str] = (),
    observers: Sequence[Observer] = (),
    progress: Progress | None = None,
    interruption: Interruption | None = None,
) -> RunDirectory:
    """Make one run of an experiment, or go on with it; one that is finished is left as it is.

    Args:
        place: the experiment.
        name: of the run.
        trusted: interventions outside of PicoLM whose code may run.
        observers: who is told of the record.
        progress: who is told while data are prepared.
        interruption: as in `train`.

    Raises:
        PicoLMError: the plan has no such run, or the run cannot be made.
    """
    design = place.design()
    run = _planned(place, design, name)
    path = place.run_path(name)
    if not (path / RUN_FILE).is_file():
        settle(place, run)
    if (path / RUN_FILE).is_file():
        return resume(path, trusted=trusted, observers=observers, progress=progress, interruption=interruption)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    parent = place.parent()
    if parent is None:
        return train(
            run.config,
            name=name,
            runs_dir=path.parent,
            trusted=trusted,
            observers=observers,
            progress=progress,
            interruption=interruption,
        )
    assert design.plan.fork is not None
    planned, base = run.config.model_dump(mode="json"), design.base.model_dump(mode="json")
    return fork(
        parent.path,
        design.plan.fork.at,
        # Whole sections: a section of another kind would else lose what both kinds have in common.
        overrides={key: value for key, value in planned.items() if value != base[key]},
        name=name,
        runs_dir=path.parent,
        trusted=trusted,
        observers=observers,
        progress=progress,
        interruption=interruption,
    )


def _planned(place: ExperimentFolder, design: Design, name: str) -> PlannedRun:
    search = design.search()
    known = {run.name: run for run in search}
    if name not in known:
        choices = place.choices()
        if search and choices is None:
            raise PicoLMError(f"the search of {place.path} is not over, so that '{name}' has no configuration yet")
        known |= {run.name: run for run in design.comparison(choices)}
    if name not in known:
        raise PicoLMError(f"the plan of {place.path} has no run '{name}'{nearest(name, known)}")
    return known[name]
