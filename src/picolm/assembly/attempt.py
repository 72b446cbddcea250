"""One attempt at a run: everything is built, handed to the trainer, and closed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch

from picolm.assembly.ingredients import Ingredients, order
from picolm.assembly.online import online_metrics
from picolm.config import schema
from picolm.data.prepared import TokenData
from picolm.data.split import Split
from picolm.errors import to_standard_error
from picolm.interventions.loading import Loaded
from picolm.model.continuation import continue_texts
from picolm.model.generation import Sampling
from picolm.model.size import flops_per_token
from picolm.report.page import write_run_report
from picolm.runs.attempt import append_attempt, describe_attempt
from picolm.runs.directory import RunDirectory
from picolm.runs.ledger import Ledger, plain_marks
from picolm.runs.resumption import ResumePoint
from picolm.seams import Formulation, Measurement, Objective, Observer, Plan
from picolm.tracking.tracker import trackers
from picolm.training.averaging import WeightAverage
from picolm.training.batches import Batches
from picolm.training.capture import Capture, build_capture
from picolm.training.checkpointing import Checkpoints
from picolm.training.forecast import Forecast, measured_rates
from picolm.training.forecast import forecast as forecast_run
from picolm.training.interruption import Interruption
from picolm.training.live import Live, LiveRun
from picolm.training.numerics import choose_device, numerics
from picolm.training.parallel import Ranks
from picolm.training.recorder import Recorder
from picolm.training.shown import Shown
from picolm.training.state import TrainingState
from picolm.training.structure import Active, Structure
from picolm.training.trainer import Evaluation, Trainer
from picolm.training.validation import Validation
from picolm.training.writer import Writer

MakeEvaluation = Callable[[RunDirectory, Interruption, Sequence[Observer]], Evaluation]
"""(the run, what may end it early, who is told how far an evaluation is) -> what the trainer calls."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who looks on, and what may end a run early."""

    observers: Sequence[Observer]
    measurements: Sequence[Measurement]
    interruption: Interruption | None
    evaluation: MakeEvaluation | None = None
    """Makes what asks checkpoints as soon as they are there; None: nothing is asked."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What is built before the first step, on every rank."""

    structure: Structure
    live: Live
    plan: Plan
    shown: Formulation
    batches: Batches
    state: TrainingState | None
    """What the attempt goes on from; None: the beginning."""


def attempt(
    run: RunDirectory,
    ingredients: Ingredients,
    loaded: Sequence[Loaded],
    point: ResumePoint | None,
    watch: Watch,
    ranks: Ranks,
    *,
    warnings: Sequence[str] = (),
) -> None:
    """Train a run from its beginning or a resume point; on the first rank it is locked, and its directory ready."""
    config = ingredients.config
    device = choose_device(config.training.device)
    with ExitStack() as stack:
        stack.enter_context(numerics(config.training))
        interruption = stack.enter_context(watch.interruption or Interruption())
        # Where the run itself begins: a fork does so at a step of its parent.
        begins = (run.identity.get("parent") or {}).get("step", 0)
        parts = stack.enter_context(_Built(ingredients, loaded, point, device, ranks, begins)).parts
        if not ranks.is_first:
            _trainer(ingredients, parts, ranks).run(interruption)
            # A rank that left while the first one still writes the run would take the whole group down.
            ranks.wait()
            return
        expected = forecast_of(ingredients, device).plain()
        begun = describe_attempt(None if point is None else point.step)
        facts = {"device": str(device), "ranks": ranks.size, "threads": torch.get_num_threads(), "forecast": expected}
        mark = append_attempt(run.path, {**begun, **facts, "warnings": list(warnings)})
        ledger = stack.enter_context(Ledger(run.path))
        ledger.append({"event": "started", "marks": {run.attempts_path.name: mark.plain()}})
        watching = [*watch.observers, *trackers(config.tracking, run.path)]
        try:
            told = {**run.identity, "steps": config.training.steps, "first": parts.batches.first, "forecast": expected}
            looking = replace(watch, observers=watching, interruption=interruption)
            _first_rank(run, ingredients, parts, ranks, ledger, looking, told)
        finally:
            # Also when the run was stopped: then the page is wanted most.
            write_run_report(run)
        ranks.wait()


def forecast_of(ingredients: Ingredients, device: torch.device) -> Forecast:
    """What a run would take."""
    config = ingredients.config
    return forecast_run(
        config,
        train_tokens=ingredients.data.split("train").n_tokens,
        rates=measured_rates(config, device),
    )


def active_of(
    ingredients: Ingredients, loaded: Sequence[Loaded], state: TrainingState | None, ranks: Ranks | None = None
) -> tuple[list[Active], Live]:
    """The interventions of a run with the run as each sees it, and what they remember; the parts are not built yet."""
    live = Live(
        ingredients.config,
        data=ingredients.data,
        rows=ingredients.rows,
        tokenizer=ingredients.tokenizer,
        ranks=ranks or Ranks(),
    )
    live.step = 0 if state is None else state.step
    active = [Active(item.name, item.intervention, LiveRun(live, item.name)) for item in loaded]
    for item in active:
        # Before anything is built: plan, views and structure may follow from it.
        if state is not None and item.name in state.interventions:
            item.intervention.load_state_dict(state.interventions[item.name])
    return active, live


class _Built:
    """Builds the parts; their threads end with the context."""

    def __init__(
        self,
        ingredients: Ingredients,
        loaded: Sequence[Loaded],
        point: ResumePoint | None,
        device: torch.device,
        ranks: Ranks,
        begins: int,
    ) -> None:
        config = ingredients.config
        state = None if point is None or point.checkpoint is None else TrainingState.read(point.checkpoint.path)
        first = 0 if state is None else state.step
        active, live = active_of(ingredients, loaded, state, ranks)
        plan = order(ingredients)
        for item in active:
            plan = item.intervention.plan(plan, item.run)
        if first != begins:
            live.take_trace()
        shown = Shown(ingredients.formulation, active)
        structure = Structure(config, ingredients.formulation, active, device)
        structure.build(first, *((state.parameters, state.optimizer) if state is not None else ()))
        batches = Batches(
            plan,
            ingredients.rows,
            shown,
            first=first,
            last=config.training.steps,
            prefetch=config.data.prefetch_steps,
            workers=config.data.loader_workers,
            pin=device.type == "cuda",
        )
        live.structure, live.batches = structure, batches
        if first != begins and not structure.changes(first):
            # What is built again was recorded when it was built first.
            live.take_trace()
        self.parts = Parts(structure, live, plan, shown, batches, state)

    def __enter__(self) -> _Built:
        return self

    def __exit__(self, *_: object) -> None:
        self.parts.batches.close()


def _trainer(
    ingredients: Ingredients,
    parts: Parts,
    ranks: Ranks,
    *,
    recorder: Recorder | None = None,
    checkpoints: Checkpoints | None = None,
    capture: Capture | None = None,
    evaluation: Evaluation | None = None,
) -> Trainer:
    config, held_out = ingredients.config, _held_out(ingredients.data)
    average = WeightAverage(parts.structure.objective, config.training.ema) if config.training.ema else None
    trainer = Trainer(
        config,
        structure=parts.structure,
        live=parts.live,
        plan=parts.plan,
        batches=parts.batches,
        validation=Validation(held_out, parts.shown, config, ranks) if held_out else None,
        recorder=recorder,
        checkpoints=checkpoints,
        average=average,
        capture=capture,
        evaluation=evaluation,
        ranks=ranks,
    )
    if parts.state is not None:
        trainer.restore(parts.state)
    return trainer


def _first_rank(
    run: RunDirectory,
    ingredients: Ingredients,
    parts: Parts,
    ranks: Ranks,
    ledger: Ledger,
    watch: Watch,
    told: Mapping[str, Any],
) -> None:
    """Train on the rank that records, captures, saves and evaluates."""
    interruption, observers = watch.interruption, watch.observers
    assert interruption is not None
    config, structure, first = ingredients.config, parts.structure, parts.batches.first
    recorder = Recorder(
        run,
        observers,
        nonfinite_limit=config.training.nonfinite_limit,
        flops_per_token=flops_per_token(config.model, ingredients.vocab_size, config.data.sequence_length),
        device=structure.device,
        first=(first, parts.plan.start(first) * config.data.sequence_length),
    )
    with recorder, Writer() as writer:
        checkpoints = Checkpoints(
            run, config, ingredients.tokenizer, writer=writer, ledger=ledger, warn=to_standard_error
        )
        capture = build_capture(
            config,
            held_out=ingredients.data.split("validation"),
            tokenizer=ingredients.tokenizer,
            formulation=parts.shown,
            objective=structure.objective,
            optimizer=structure.optimizer,
            run=run,
            writer=writer,
            device=structure.device,
            done=first,
            measurements=watch.measurements,
            metrics=online_metrics(config, run.path, observers),
            interventions=[item.intervention for item in structure.active],
            committed=ledger.committed,
        )
        evaluation = watch.evaluation(run, interruption, observers) if watch.evaluation else None
        trainer = _trainer(
            ingredients,
            parts,
            ranks,
            recorder=recorder,
            checkpoints=checkpoints,
            capture=capture,
            evaluation=evaluation,
        )
        done = _observed(trainer, told, interruption, observers)
        if done == config.training.steps and config.objective.kind == "causal":
            _sample(recorder, structure.objective, ingredients, config)
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


def _sample(recorder: Recorder, objective: Objective, ingredients: Ingredients, config: schema.Config) -> None:
    # On the eager twin: every length of a text would be compiled anew.
    with torch.compiler.set_stance("force_eager"):
        continuations = continue_texts(
            objective.model,
            ingredients.tokenizer,
            config.samples.prompts,
            max_tokens=config.samples.max_tokens,
            sampling=Sampling.of(config.samples),
            seed=config.seeds.sampling,
            keys=range(len(config.samples.prompts)),
        )
    for made in continuations:
        recorder.write({"event": "sample", "step": config.training.steps, "prompt": made.prompt, "text": made.text})
