"""From a configuration to a trained, validated, sampled and reported run; or to a forecast of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from picolm.assembly.ingredients import Ingredients, identity, order, prepare, reopen
from picolm.config import schema
from picolm.data.preparation import Progress
from picolm.data.prepared import TokenData
from picolm.data.split import Split
from picolm.errors import PicoLMError, to_standard_error
from picolm.model.compilation import compile_blocks
from picolm.model.continuation import continue_texts
from picolm.model.generation import Sampling
from picolm.model.initialization import build_model
from picolm.model.size import flops_per_token
from picolm.model.transformer import Transformer
from picolm.report.page import write_run_report
from picolm.runs.attempt import append_attempt, describe_attempt
from picolm.runs.directory import RUN_FILE, RunDirectory, free_name
from picolm.runs.ledger import Ledger, plain_marks, read_ledger
from picolm.runs.lock import RunLock
from picolm.runs.resumption import ResumePoint, find_resume_point, make_ready
from picolm.seams import Measurement, Objective, Observer
from picolm.text.tokenizer import Tokenizer
from picolm.tracking.tracker import require, trackers
from picolm.training.averaging import WeightAverage
from picolm.training.batches import Batches
from picolm.training.capture import build_capture
from picolm.training.capture_size import check_room
from picolm.training.checkpointing import Checkpoints
from picolm.training.forecast import Forecast, measured_rates
from picolm.training.forecast import forecast as forecast_run
from picolm.training.interruption import Interruption
from picolm.training.numerics import choose_device, numerics
from picolm.training.probes import check_probes
from picolm.training.recorder import Recorder
from picolm.training.state import TrainingState
from picolm.training.trainer import Trainer
from picolm.training.validation import Validation
from picolm.training.writer import Writer


def train(
    config: schema.Config,
    *,
    name: str | None = None,
    stem: str = "run",
    runs_dir: Path | str = "runs",
    observers: Sequence[Observer] = (),
    measurements: Sequence[Measurement] = (),
    progress: Progress | None = None,
    interruption: Interruption | None = None,
) -> RunDirectory:
    """Train one model, from text to a saved, sampled and reported run.

    Args:
        config: the whole run.
        name: the run's name, which must be free; None: `stem`, or `stem-2`, ... where that is taken.
        stem: the beginning of the default name.
        runs_dir: where runs stand.
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
    choose_device(config.training.device)
    require(config.tracking)
    if name is not None and (not name or "/" in name or name in (".", "..")):
        raise PicoLMError(f"'{name}' cannot name a run: give a plain name without '/'")
    path = Path(runs_dir) / (name or free_name(Path(runs_dir), stem))
    if name is not None and path.exists():
        raise PicoLMError(f"run {path} exists; choose another --name, or go on with it: picolm resume {path}")
    ingredients = prepare(config, progress)
    check_probes(ingredients.config, ingredients.data.split("validation"))
    check_room(ingredients.config, path)
    run = RunDirectory.create(path, identity(ingredients, path.name))
    with RunLock(run.path):
        with Ledger(run.path) as ledger:
            ledger.committed(run.path / RUN_FILE)
        attempt(run, ingredients, None, observers=observers, measurements=measurements, interruption=interruption)
    return run


def resume(
    path: Path | str,
    *,
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
        observers: who is told of the record while it is made.
        measurements: metrics that are computed at the steps of `capture`.
        progress: who is told while the data are prepared.
        interruption: as in `train`.
        warn: is told, in a sentence, of each damage, and of each file that was put aside.

    Raises:
        PicoLMError: there is no such run, another process is at work on it, its data are other data now, or none of its
            checkpoints is whole.
    """
    run = RunDirectory.open(Path(path))
    with RunLock(run.path):
        point = find_resume_point(run)
        if not point.warnings and read_ledger(run.path).ended == run.identity["config"]["training"]["steps"]:
            return run
        ingredients = reopen(run, progress, verify=True)
        warnings = [*point.warnings, *make_ready(run, point)]
        for sentence in warnings:
            warn(sentence)
        attempt(
            run,
            ingredients,
            point,
            observers=observers,
            measurements=measurements,
            interruption=interruption,
            warnings=warnings,
        )
    return run


def attempt(
    run: RunDirectory,
    ingredients: Ingredients,
    point: ResumePoint | None,
    *,
    observers: Sequence[Observer],
    measurements: Sequence[Measurement],
    interruption: Interruption | None,
    warnings: Sequence[str] = (),
) -> None:
    """Train a run from its beginning or a resume point; the run is locked, and its directory ready."""
    config = ingredients.config
    device = choose_device(config.training.device)
    require(config.tracking)
    with ExitStack() as stack:
        stack.enter_context(numerics(config.training))
        interruption = stack.enter_context(interruption or Interruption())
        expected = _forecast(ingredients, device).plain()
        begun = describe_attempt(None if point is None else point.step)
        facts = {"device": str(device), "ranks": 1, "threads": torch.get_num_threads(), "forecast": expected}
        mark = append_attempt(run.path, {**begun, **facts, "warnings": list(warnings)})
        ledger = stack.enter_context(Ledger(run.path))
        ledger.append({"event": "started", "marks": {run.attempts_path.name: mark.plain()}})
        watching = [*observers, *trackers(config.tracking, run.path)]
        try:
            _train(run, ingredients, device, watching, measurements, interruption, expected, point, ledger)
        finally:
            # Also when the run was stopped: then the page is wanted most.
            write_run_report(run)


def forecast(config: schema.Config, progress: Progress | None = None) -> Forecast:
    """Say what a run would take; the data are prepared or opened for it, nothing else is written.

    Raises:
        PicoLMError: as `train`, as far as it shows before the first step.
    """
    device = choose_device(config.training.device)
    require(config.tracking)
    ingredients = prepare(config, progress)
    with numerics(config.training):
        return _forecast(ingredients, device)


def _forecast(ingredients: Ingredients, device: torch.device) -> Forecast:
    config = ingredients.config
    return forecast_run(
        config,
        train_tokens=ingredients.data.split("train").n_tokens,
        rates=measured_rates(config, device),
    )


def _train(
    run: RunDirectory,
    ingredients: Ingredients,
    device: torch.device,
    observers: Sequence[Observer],
    measurements: Sequence[Measurement],
    interruption: Interruption,
    expected: dict[str, Any],
    point: ResumePoint | None,
    ledger: Ledger,
) -> None:
    config = ingredients.config
    first = 0 if point is None else point.step
    model = build_model(config.model, config.seeds.init)
    if config.training.compile:
        compile_blocks(model.layers)
    objective = Objective(model, ingredients.formulation.terms()).to(device)
    plan = order(ingredients)
    batches = Batches(
        plan,
        ingredients.rows,
        ingredients.formulation,
        first=first,
        last=config.training.steps,
        prefetch=config.data.prefetch_steps,
        workers=config.data.loader_workers,
        pin=device.type == "cuda",
    )
    recorder = Recorder(
        run,
        observers,
        nonfinite_limit=config.training.nonfinite_limit,
        flops_per_token=flops_per_token(config.model, ingredients.vocab_size, config.data.sequence_length),
        device=device,
        first=(first, plan.start(first) * config.data.sequence_length),
    )
    held_out = _held_out(ingredients.data)
    average = WeightAverage(objective, config.training.ema) if config.training.ema else None
    with batches, recorder, Writer() as writer:
        trainer = Trainer(
            config,
            objective=objective,
            plan=plan,
            batches=batches,
            validation=Validation(held_out, ingredients.formulation, config) if held_out else None,
            recorder=recorder,
            device=device,
            checkpoints=Checkpoints(
                run, config, ingredients.tokenizer, writer=writer, ledger=ledger, warn=to_standard_error
            ),
            average=average,
        )
        if point is not None and point.checkpoint is not None:
            shapes = {name: tensor.shape for name, tensor in objective.state_dict().items()}
            trainer.restore(TrainingState.read(point.checkpoint.path, shapes))
        trainer.capture = build_capture(
            config,
            held_out=ingredients.data.split("validation"),
            tokenizer=ingredients.tokenizer,
            formulation=ingredients.formulation,
            objective=objective,
            optimizer=trainer.optimizer,
            run=run,
            writer=writer,
            device=device,
            done=first,
            measurements=measurements,
            committed=ledger.committed,
        )
        facts = {**run.identity, "steps": config.training.steps, "first": first, "forecast": expected}
        done = _observed(trainer, facts, interruption, observers)
        if done == config.training.steps and config.objective.kind == "causal":
            _sample(recorder, model, ingredients.tokenizer, config)
        writer.wait()
        ledger.append({"event": "ended", "step": done, "marks": plain_marks(recorder.marks)})


def _held_out(data: TokenData) -> Split | None:
    split = data.split("validation")
    return split if split.n_documents else None


def _observed(
    trainer: Trainer, facts: Mapping[str, Any], interruption: Interruption, observers: Sequence[Observer]
) -> int:
    for observer in observers:
        observer.started(facts)
    done = trainer.batches.first
    try:
        done = trainer.run(interruption)
    finally:
        for observer in observers:
            observer.ended(done)
    return done


def _sample(recorder: Recorder, model: Transformer, tokenizer: Tokenizer, config: schema.Config) -> None:
    # On the eager twin: every length of a text would be compiled anew.
    with torch.compiler.set_stance("force_eager"):
        continuations = continue_texts(
            model,
            tokenizer,
            config.samples.prompts,
            max_tokens=config.samples.max_tokens,
            sampling=Sampling.of(config.samples),
            seed=config.seeds.sampling,
            keys=range(len(config.samples.prompts)),
        )
    for made in continuations:
        recorder.write({"event": "sample", "step": config.training.steps, "prompt": made.prompt, "text": made.text})
