"""One run of an experiment: begun, or gone on with, and measured when it has come to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from picolm.assembly.forking import fork
from picolm.assembly.measuring import measure_run
from picolm.assembly.training import resume, train
from picolm.data.preparation import Progress
from picolm.errors import PicoLMError, nearest
from picolm.experiments.design import Design, PlannedRun
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.making import settle
from picolm.runs.directory import RUN_FILE, RunDirectory
from picolm.runs.durable import explained
from picolm.runs.ledger import read_ledger
from picolm.seams import Observer
from picolm.training.interruption import Interruption


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
        progress: who is told while data are prepared, and while the run is measured.
        interruption: as in `train`.

    Raises:
        PicoLMError: the plan has no such run, or the run cannot be made, or it cannot be measured.
    """
    design = place.design()
    run = _one_of(place, design, name)
    watch = {"trusted": trusted, "observers": observers, "progress": progress, "interruption": interruption}
    made = _begun_or_gone_on(place, design, run, watch)
    ended = read_ledger(made.path).ended == run.config.training.steps
    if ended and name not in {one.name for one in design.search()}:
        measure_run(made.path, design.plan.analyze, progress)
    return made


def planned(place: ExperimentFolder, design: Design) -> dict[str, PlannedRun]:
    """The runs whose configuration is known, by name: those of the comparison are not before the search is over."""
    search, choices = design.search(), place.choices()
    compared = [] if search and choices is None else design.comparison(choices)
    return {run.name: run for run in [*search, *compared]}


def _begun_or_gone_on(place: ExperimentFolder, design: Design, run: PlannedRun, watch: dict[str, Any]) -> RunDirectory:
    path = place.run_path(run.name)
    if not (path / RUN_FILE).is_file():
        settle(place, run)
    if (path / RUN_FILE).is_file():
        return resume(path, **watch)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    parent = place.parent()
    if parent is None:
        return train(run.config, name=run.name, runs_dir=path.parent, **watch)
    assert design.plan.fork is not None
    values, base = run.config.model_dump(mode="json"), design.base.model_dump(mode="json")
    # Whole sections: a section of another kind would else lose what both kinds have in common.
    overrides = {key: value for key, value in values.items() if value != base[key]}
    return fork(parent.path, design.plan.fork.at, overrides=overrides, name=run.name, runs_dir=path.parent, **watch)


def _one_of(place: ExperimentFolder, design: Design, name: str) -> PlannedRun:
    known = planned(place, design)
    if name in known:
        return known[name]
    if name in {run.name for run in design.comparison()}:
        raise PicoLMError(f"the search of {place.path} is not over, so that '{name}' has no configuration yet")
    raise PicoLMError(f"the plan of {place.path} has no run '{name}'{nearest(name, known)}")
