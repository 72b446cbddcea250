"""A run branched from a checkpoint of another one: a shared past, another list of interventions, another future."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from picolm.assembly.attempt import Watch, active_of, attempt
from picolm.assembly.ingredients import Ingredients, code_hashes, identity, reopen_as
from picolm.assembly.online import check_metrics, check_names
from picolm.assembly.scheduled import scheduled_evaluation
from picolm.assembly.training import place_for
from picolm.config import schema
from picolm.config.loading import Overrides, build_config, changed
from picolm.data.preparation import Progress
from picolm.errors import PicoLMError
from picolm.interventions.loading import Loaded, Trust, load_interventions
from picolm.model.files import save_tensors
from picolm.runs.directory import RUN_FILE, Checkpoint, RunDirectory
from picolm.runs.ledger import Ledger, seal_of
from picolm.runs.lineage import describe_parent
from picolm.runs.lock import RunLock
from picolm.runs.manifest import MANIFEST, read_manifest, write_manifest
from picolm.runs.resumption import EMPTY, ResumePoint
from picolm.runs.verification import refuse_changed_identity
from picolm.seams import Measurement, Observer
from picolm.training.exporting import export
from picolm.training.interruption import Interruption
from picolm.training.parallel import joined_ranks
from picolm.training.state import LIVE_FILE, MODEL, STATE, TrainingState
from picolm.training.structure import Structure


def fork(
    path: Path | str,
    at: int,
    *,
    overrides: Overrides = (),
    interventions: Sequence[str] = (),
    without: Collection[str] = (),
    name: str | None = None,
    runs_dir: Path | str | None = None,
    trusted: Sequence[str] = (),
    trust: bool = False,
    observers: Sequence[Observer] = (),
    measurements: Sequence[Measurement] = (),
    progress: Progress | None = None,
    interruption: Interruption | None = None,
) -> RunDirectory:
    """Branch a run: begin a new one with the state that another had after some updates.

    Until then both have the same past; the new run's log begins there, and `run.json` keeps the parent. The checkpoint
    is copied, so the parent may be moved or deleted afterwards.

    Args:
        path: the parent.
        at: a step at which it has a whole state; 0: its beginning.
        overrides: changes of the configuration; those of data, tokenizer, model and optimizer kind are refused.
        interventions: as `--with`: added to the parent's list, or set over those that it has.
        without: names of interventions of the parent that the fork shall not have. What they added to the model is
            merged into it.
        name: the fork's name, which must be free; None: the parent's, followed by a number.
        runs_dir: where the fork is to stand; None: beside its parent.
        trusted: as in `train`.
        trust: as in `resume`.
        observers: as in `train`.
        measurements: as in `train`.
        progress: as in `train`.
        interruption: as in `train`.

    Raises:
        PicoLMError: there is no such run or state, or the fork would not be one.
    """
    parent = RunDirectory.open(Path(path))
    refuse_changed_identity(parent)
    config = build_config(parent.identity["config"])
    trusting = Trust(trusted, code_hashes(parent) if trust else {})
    former = load_interventions(config.interventions, trusting)
    config = _changed(config, overrides, interventions, without, former)
    check_names(config.capture)
    loaded = load_interventions(config.interventions, trusting)
    for item in loaded:
        if item.name in without:
            # Under that name stands what the former one remembers, and its random streams.
            raise PicoLMError(
                f"the fork leaves out '{item.name}' and adds one of the same name: give the new one another, name=..."
            )
    watch = Watch(observers, measurements, interruption)
    with joined_ranks() as ranks:
        with ranks.first_goes_ahead():
            ingredients = reopen_as(parent, config, progress)
        if not ranks.is_first:
            run = RunDirectory.open(Path(ranks.tell(None)))
            attempt(run, ingredients, loaded, _beginning(run, at), watch, ranks)
            return run
        place = place_for(name, parent.name, parent.path.parent if runs_dir is None else Path(runs_dir))
        checkpoint = _checkpoint(parent, at)
        check_metrics(ingredients.config)
        watch = replace(watch, evaluation=scheduled_evaluation(place, ingredients, loaded))
        lineage = describe_parent(parent, at, place, None if checkpoint is None else seal_of(checkpoint.path))
        dropped = [item for item in former if item.name not in {other.name for other in loaded}]
        run = RunDirectory.create(
            place,
            identity(ingredients, place.name, loaded, lineage),
            # Together with its beginning: a fork that has lost it must never begin from nothing.
            fill=lambda directory: _copy(checkpoint, directory, ingredients, former, dropped),
        )
        with RunLock(run.path):
            point = _beginning(run, at)
            with Ledger(run.path) as ledger:
                ledger.committed(run.path / RUN_FILE)
                if point.checkpoint is not None:
                    ledger.committed(point.checkpoint.path)
            ranks.tell(str(run.path))
            attempt(run, ingredients, loaded, point, watch, ranks)
    return run


def _changed(
    config: schema.Config,
    overrides: Overrides,
    interventions: Sequence[str],
    without: Collection[str],
    former: Sequence[Loaded],
) -> schema.Config:
    """The fork's configuration; refuse what would not be a fork."""
    names = [item.name for item in former]
    for name in without:
        if name not in names:
            raise PicoLMError(
                f"the run has no intervention '{name}' to leave out; it has: {', '.join(names) or 'none'}"
            )
    values = config.model_dump(mode="json")
    kept = zip(values["interventions"], names, strict=True)
    # With the names that they had: log, states and random streams go by them.
    values["interventions"] = [{**use, "name": name} for use, name in kept if name not in without]
    fresh = changed(values, overrides, interventions)
    for key in ("data", "tokenizer", "model", "objective"):
        if getattr(fresh, key) != getattr(config, key):
            raise PicoLMError(f"a fork keeps the {key} of its parent: to change {key}, begin a run with `picolm train`")
    if fresh.optimizer.kind != config.optimizer.kind:
        raise PicoLMError(
            f"a fork keeps the kind of optimizer of its parent, {config.optimizer.kind}: its state goes on"
        )
    return fresh


def _checkpoint(parent: RunDirectory, at: int) -> Checkpoint | None:
    """The checkpoint that a fork begins with; None at step 0."""
    if at == 0:
        return None
    states = {checkpoint.step: checkpoint for checkpoint in parent.checkpoints if checkpoint.has_state}
    if at not in states:
        there = ", ".join(map(str, states)) or "no step"
        raise PicoLMError(
            f"run {parent.path} has no state at step {at} to fork from; it has states at: {there} "
            f"(a run with checkpoints.state.at={at} keeps one there)"
        )
    damage = states[at].damaged()
    if damage:
        raise PicoLMError(f"cannot fork from step {at}: {damage[0]}")
    return states[at]


def _copy(
    checkpoint: Checkpoint | None,
    directory: Path,
    ingredients: Ingredients,
    former: Sequence[Loaded],
    dropped: Sequence[Loaded],
) -> None:
    """Put the parent's checkpoint into the new run, as its first."""
    if checkpoint is None:
        return
    target = directory / "checkpoints" / checkpoint.path.name
    shutil.copytree(checkpoint.path, target, ignore=shutil.ignore_patterns(MANIFEST))
    merging = [item for item in dropped if item.overrides("export")]
    if merging:
        save_tensors(_merged(checkpoint, ingredients, former, merging), target / STATE / LIVE_FILE)
    facts = {key: value for key, value in read_manifest(checkpoint.path).items() if key not in ("format", "files")}
    # The fork's own log begins empty.
    write_manifest(target, **{**facts, "log": EMPTY.plain()})


def _merged(
    checkpoint: Checkpoint, ingredients: Ingredients, former: Sequence[Loaded], dropped: Sequence[Loaded]
) -> dict[str, torch.Tensor]:
    """What is trained, with what the dropped interventions added merged into the model."""
    state = TrainingState.read(checkpoint.path)
    active, _ = active_of(ingredients, former, state)
    structure = Structure(ingredients.config, ingredients.formulation, active, torch.device("cpu"))
    structure.build(state.step, state.parameters)
    own = {name: tensor for name, tensor in state.parameters.items() if name in structure.objective.state_dict()}
    plain = export(structure.objective.model, own, [item.intervention for item in dropped])
    if not plain.has_twin:
        names = ", ".join(item.name for item in dropped)
        raise PicoLMError(f"{names} cannot be left out of a fork: what it added to the model cannot be merged into it")
    heads = {name: tensor for name, tensor in own.items() if not name.startswith(MODEL)}
    return {**{f"{MODEL}{name}": tensor for name, tensor in plain.parameters.items()}, **heads}


def _beginning(run: RunDirectory, at: int) -> ResumePoint:
    path = run.checkpoint_path(at)
    return ResumePoint(Checkpoint(at, path) if path.is_dir() else None)
