"""Experiments are carried out: the plan is kept, its runs are made by processes of their own, the page is written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from picolm.assembly.experimenting import outline, parent_of
from picolm.assembly.measuring import measure_run
from picolm.assembly.member import planned
from picolm.data.preparation import Progress
from picolm.errors import PicoLMError, nearest, to_standard_error
from picolm.experiments.assessment import assess
from picolm.experiments.choosing import choose
from picolm.experiments.findings import Findings, State
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.launchers.script import script
from picolm.experiments.launchers.settings import Slurm
from picolm.experiments.launching import Job, Launcher, thread_environment
from picolm.experiments.making import Maker, Watcher
from picolm.experiments.outline import Outline
from picolm.experiments.plan import Plan, arm_of
from picolm.experiments.proposing import next_points, outcomes
from picolm.experiments.reading import plan_path, read_plan
from picolm.report.experiment import experiment_figures, write_experiment_report
from picolm.report.paper import write_figures
from picolm.runs.lock import RunLock
from picolm.training.interruption import Interruption

EXPERIMENTS = Path("experiments")


@dataclass(frozen=True, slots=True)
class Tell:
    """What is said before something begins.

    Attributes:
        measuring: is given the number of short runs, and about how many seconds they take.
        making: is given what the plan comes to, and where its runs will stand.
    """

    measuring: Callable[[int, float], None] = lambda runs, seconds: None
    making: Callable[[Outline, ExperimentFolder], None] = lambda found, place: None


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
    measured: bool = True,
    trusted: Sequence[str] = (),
    progress: Progress | None = None,
    interruption: Interruption | None = None,
    tell: Tell = Tell(),
) -> Made:
    """Make all runs of a plan that are missing, and judge its predictions.

    Args:
        path: the plan.
        launcher: starts the processes.
        watcher: is told of them.
        folder: where experiments stand.
        at_once: how many runs at the same time; None: as the plan says.
        measured: whether short runs show beforehand what the runs take, as long as none has begun.
        trusted: interventions outside of PicoLM whose code may run.
        progress: who is told while data are prepared and short runs are made.
        interruption: holds back Ctrl-C and SIGTERM; runs are then saved, and go on the next time.
        tell: what is said before anything is measured, and before anything runs.

    Raises:
        PicoLMError: the plan is wrong, or another process makes this experiment.
    """
    path = plan_path(path)
    plan = read_plan(path)
    queued = (plan.slurm or Slurm()).at_once if launcher.outlives else plan.at_once
    many = at_once or queued
    place = place_of(path, folder)
    found = outline(
        path,
        trusted=trusted,
        # What is known already is not measured again, and neither is what has begun.
        measured=measured and (place.forecast() is None or plan.equal == "time"),
        at_once=many,
        kept=place.paces,
        progress=progress,
        tell=tell.measuring,
    )
    parent = parent_of(found.design.plan, path.parent)
    place = ExperimentFolder.make(place.path)
    with RunLock(place.path, "experiment"), interruption or Interruption() as stop:
        place.register(found.design, path.read_text(encoding="utf-8"), None if parent is None else parent.path)
        if place.forecast() is None:
            place.expect(found.total)
        tell.making(found, place)
        maker = Maker(
            place,
            launcher,
            lambda run: command_of(place, run.name, trusted),
            at_once=many,
            watcher=watcher,
            stop=stop,
            # Jobs of a queue share no cores with each other.
            environment={} if launcher.outlives else thread_environment(many),
        )
        states = _made(place, maker, stop, many)
        if stop.signal is None:
            compared = {run.name for run in place.design().comparison(place.choices())}
            ended = [name for name, state in states.items() if state == "finished" and name in compared]
            _measure(place, found.design.plan, ended, progress)
    return Made(place, states, write_report(place))


def _made(place: ExperimentFolder, maker: Maker, stop: Interruption, at_once: int) -> dict[str, State]:
    """The search, what it chose, and the comparison; or the points of a sweep, as they are proposed."""
    design = place.design()
    if design.plan.sweep is not None and design.plan.sweep.optuna is not None:
        return _proposed(place, maker, stop, at_once)
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


def _measure(place: ExperimentFolder, plan: Plan, ended: Sequence[str], progress: Progress | None) -> None:
    """Measure what a process did not that was killed before it could; a run that cannot be measured is named."""
    for name in ended:
        try:
            measure_run(place.run_path(name), plan.analyze, progress)
        except PicoLMError as error:
            to_standard_error(f"{name} is not measured: {error}")


def _proposed(place: ExperimentFolder, maker: Maker, stop: Interruption, at_once: int) -> dict[str, State]:
    """Points are proposed, made and told, as many at once as there are places for their runs."""
    states: dict[str, State] = {}
    while stop.signal is None:
        design, trials = place.design(), place.trials.read()
        waiting = {arm_of(trial.number) for trial in trials if trial.state == "proposed"}
        if not waiting:
            runs_of_a_point = len(design.repetitions) * len(design.sizes)
            points = next_points(design.plan, trials, -(-at_once // runs_of_a_point))
            if not points:
                break
            place.trials.propose(points)
            continue
        states |= maker.make([run for run in design.comparison() if run.arm in waiting])
        over = outcomes(design.plan, trials, assess(place).runs)
        for number, value in over.items():
            place.trials.end(number, value)
        if not over:
            # Somebody stopped a run: the point goes on the next time.
            break
    return states


def write_report(place: ExperimentFolder, *, figures: Path | None = None, progress: Progress | None = None) -> Findings:
    """Judge an experiment as far as it is, and write its page.

    Args:
        place: the experiment.
        figures: a folder for what the page draws, as PNG and SVG; None: none.
        progress: told how many runs were read and how many figures drawn.

    Raises:
        PicoLMError: the plan that was kept is damaged, or a file that PicoLM has not made is in the way.
    """
    findings = assess(place, progress)
    write_experiment_report(findings, place.report_path)
    if figures is not None:
        write_figures(experiment_figures(findings), figures, progress or (lambda *_: None))
    return findings


def scripts(
    path: Path, run: str | None = None, *, folder: Path = EXPERIMENTS, trusted: Sequence[str] = ()
) -> list[str]:
    """The batch scripts of the runs of a plan, for a Slurm cluster; the plan is kept, as before any run.

    Args:
        path: the plan.
        run: the name of one; None: all whose configuration is known.
        folder: where experiments stand.
        trusted: interventions outside of PicoLM whose code may run.

    Raises:
        PicoLMError: the plan is wrong or has no such run, or holds time equal and was not measured.
    """
    path = plan_path(path)
    place = place_of(path, folder)
    found = outline(path, trusted=trusted, kept=place.paces)
    plan, parent = found.design.plan, parent_of(found.design.plan, path.parent)
    place = ExperimentFolder.make(place.path)
    with RunLock(place.path, "experiment"):
        place.register(found.design, path.read_text(encoding="utf-8"), None if parent is None else parent.path)
    design = place.design()
    known = planned(place, design)
    if run is not None and run not in known:
        raise PicoLMError(f"the plan has no run '{run}'{nearest(run, known)}")
    names = [*known] if run is None else [run]
    jobs = [Job(name, command_of(place, name, trusted), Path.cwd(), place.log_path(name), {}) for name in names]
    return [script(job, plan.slurm or Slurm()) for job in jobs]


def command_of(place: ExperimentFolder, run: str, trusted: Sequence[str] = ()) -> list[str]:
    """What makes one run of an experiment, or goes on with it; it may be called again and again."""
    named = [word for name in trusted for word in ("--with", name)]
    return [sys.executable, "-m", "picolm", "experiment", "one", str(place.path), run, *named]
