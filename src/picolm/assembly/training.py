"""From a configuration to a trained, validated, sampled and reported run; or to a forecast of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from picolm.assembly.attempt import Watch, attempt, forecast_of
from picolm.assembly.ingredients import Ingredients, code_hashes, identity, prepare, reopen
from picolm.assembly.online import check_metrics, check_names
from picolm.assembly.scheduled import scheduled_evaluation
from picolm.config import schema
from picolm.config.loading import build_config
from picolm.data.preparation import Progress
from picolm.errors import PicoLMError, to_standard_error
from picolm.evaluation.task import parse_task
from picolm.interventions.loading import Loaded, Trust, load_interventions
from picolm.runs.attempt import describe_attempt
from picolm.runs.directory import RUN_FILE, RunDirectory, free_name
from picolm.runs.ledger import Ledger, read_ledger
from picolm.runs.lock import RunLock
from picolm.runs.resumption import find_resume_point, make_ready
from picolm.runs.verification import record_damage, refuse_changed_identity
from picolm.seams import Measurement, Observer
from picolm.tracking.tracker import require
from picolm.training.capture_size import check_room
from picolm.training.forecast import Forecast
from picolm.training.interruption import Interruption
from picolm.training.numerics import choose_device, numerics
from picolm.training.parallel import Ranks, joined_ranks
from picolm.training.probes import check_probes


def train(
    config: schema.Config,
    *,
    name: str | None = None,
    stem: str = "run",
    runs_dir: Path | str = "runs",
    trusted: Sequence[str] = (),
    observers: Sequence[Observer] = (),
    measurements: Sequence[Measurement] = (),
    progress: Progress | None = None,
    interruption: Interruption | None = None,
) -> RunDirectory:
    """Train one model, from text to a saved, sampled and reported run.

    Under `torchrun` every process calls this with the same arguments; the first one writes the run.

    Args:
        config: the whole run.
        name: the run's name, which must be free; None: `stem`, or `stem-2`, ... where that is taken.
        stem: the beginning of the default name.
        runs_dir: where runs stand.
        trusted: interventions outside of PicoLM (`file.py:Class`) whose code may run.
        observers: who is told of the record while it is made.
        measurements: metrics that are computed at the steps of `capture`.
        progress: who is told while the data are prepared.
        interruption: holds back Ctrl-C and SIGTERM while the model trains; tells afterwards whether one came.

    Returns:
        The run. It holds `log.jsonl`, the checkpoints of its schedules and of its end, samples and `report.html`.

    Raises:
        PicoLMError: something in the configuration, the data or on the disk is wrong; or the loss was not finite too
            often.
    """
    loaded = _checked(config, Trust(trusted))
    watch = Watch(observers, measurements, interruption)
    with joined_ranks() as ranks:
        with ranks.first_goes_ahead():
            ingredients = prepare(config, progress)
        check_probes(ingredients.config, ingredients.data.split("validation"))
        if not ranks.is_first:
            run = RunDirectory.open(Path(ranks.tell(None)))
            attempt(run, ingredients, loaded, None, watch, ranks)
            return run
        path = place_for(name, stem, Path(runs_dir))
        check_room(ingredients.config, path)
        check_metrics(ingredients.config)
        # Reads what will be asked: bad data are found before anything is made.
        watch = replace(watch, evaluation=scheduled_evaluation(path, ingredients, loaded))
        run = RunDirectory.create(path, identity(ingredients, path.name, loaded))
        with RunLock(run.path):
            with Ledger(run.path) as ledger:
                ledger.committed(run.path / RUN_FILE)
            ranks.tell(str(run.path))
            attempt(run, ingredients, loaded, None, watch, ranks)
    return run


def resume(
    path: Path | str,
    *,
    trusted: Sequence[str] = (),
    trust: bool = False,
    observers: Sequence[Observer] = (),
    measurements: Sequence[Measurement] = (),
    progress: Progress | None = None,
    interruption: Interruption | None = None,
    warn: Callable[[str], None] = to_standard_error,
) -> RunDirectory:
    """Go on with a run that was interrupted or killed, exactly as if it had not been.

    It goes on from its newest whole checkpoint with a state, or from the beginning where it made none. A run that has
    come to its end is left as it is.

    Args:
        path: the run.
        trusted: interventions outside of PicoLM whose code may run, as it is now.
        trust: whether the code of interventions outside of PicoLM may run where it is what the run was made with.
        observers: who is told of the record while it is made.
        measurements: metrics that are computed at the steps of `capture`.
        progress: who is told while the data are prepared.
        interruption: as in `train`.
        warn: is told, in a sentence, of each damage, and of each file that was put aside.

    Raises:
        PicoLMError: there is no such run, another process is at work on it, its data are other data now, code of its
            interventions is not trusted, or none of its checkpoints is whole.
    """
    run = RunDirectory.open(Path(path))
    refuse_changed_identity(run)
    config = build_config(run.identity["config"])
    loaded = _checked(config, Trust(trusted, code_hashes(run) if trust else {}))
    watch = Watch(observers, measurements, interruption)
    with joined_ranks() as ranks:
        with ranks.first_goes_ahead():
            ingredients = reopen(run, progress, verify=ranks.is_first)
        if not ranks.is_first:
            if ranks.tell(None):
                attempt(run, ingredients, loaded, find_resume_point(run), watch, ranks)
            return run
        with RunLock(run.path):
            _go_on(run, ingredients, loaded, watch, ranks, warn)
    return run


def _go_on(
    run: RunDirectory,
    ingredients: Ingredients,
    loaded: Sequence[Loaded],
    watch: Watch,
    ranks: Ranks,
    warn: Callable[[str], None],
) -> None:
    point = find_resume_point(run)
    harm = record_damage(run)
    for sentence in harm:
        warn(sentence)
    if not point.warnings and read_ledger(run.path).ended == ingredients.config.training.steps:
        ranks.tell(False)
        return
    watch = replace(watch, evaluation=scheduled_evaluation(run.path, ingredients, loaded))
    warnings = [*point.warnings, *_other_conditions(run, ingredients.config), *make_ready(run, point)]
    for sentence in warnings:
        warn(sentence)
    ranks.tell(True)
    attempt(run, ingredients, loaded, point, watch, ranks, warnings=[*harm, *warnings])


def _other_conditions(run: RunDirectory, config: schema.Config) -> list[str]:
    """What is not as it was when the run last went, and decides about the last bits of its numbers."""
    before: dict[str, Any] = {}
    # A damaged record of attempts is for `verify` to name; nothing that is computed hangs on it.
    with suppress(PicoLMError, IndexError):
        before = run.attempts[-1]
    now = {
        "threads": config.training.threads or torch.get_num_threads(),
        "device": str(choose_device(config.training.device)),
        "cpu": describe_attempt(None)["cpu"],
    }
    return [
        f"{key} was {before[key]} and is {value} now: the run goes on, but its last bits may be others"
        for key, value in now.items()
        if key in before and before[key] != value
    ]


def forecast(config: schema.Config, progress: Progress | None = None, *, trusted: Sequence[str] = ()) -> Forecast:
    """Say what a run would take; the data are prepared or opened for it, nothing else is written.

    Args:
        config: the whole run. What interventions add to its cost is not in the forecast.
        progress: who is told while the data are prepared.
        trusted: as in `train`.

    Raises:
        PicoLMError: as `train`, as far as it shows before the first step.
    """
    _checked(config, Trust(trusted))
    device = choose_device(config.training.device)
    ingredients = prepare(config, progress)
    check_probes(ingredients.config, ingredients.data.split("validation"))
    check_metrics(ingredients.config)
    with numerics(config.training):
        return forecast_of(ingredients, device)


def place_for(name: str | None, stem: str, runs_dir: Path) -> Path:
    """Where a new run is to stand.

    Raises:
        PicoLMError: the name is no plain name, or is taken.
    """
    if name is not None and (not name or "/" in name or name in (".", "..")):
        raise PicoLMError(f"'{name}' cannot name a run: give a plain name without '/'")
    path = runs_dir / (name or free_name(runs_dir, stem))
    if name is not None and path.exists():
        raise PicoLMError(f"run {path} exists; choose another --name, or go on with it: picolm resume {path}")
    return path


def _checked(config: schema.Config, trust: Trust) -> tuple[Loaded, ...]:
    """What shows before anything is prepared: device, trackers, questions, metrics, interventions."""
    choose_device(config.training.device)
    for words in config.evaluation.tasks:
        parse_task(words)
    check_names(config.capture)
    require(config.tracking)
    return load_interventions(config.interventions, trust)
