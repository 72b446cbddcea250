"""The loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolm.config import schema
from picolm.randomness import derive_seed
from picolm.seams import Intervention, Plan, View
from picolm.training.averaging import UPDATES, WeightAverage
from picolm.training.batches import Batches
from picolm.training.capture import Capture
from picolm.training.checkpointing import AVERAGE, Checkpoints
from picolm.training.exporting import export
from picolm.training.interruption import Interruption
from picolm.training.live import Live
from picolm.training.numerics import autocast
from picolm.training.optimizer import apply_update, gradient_norm, set_learning_rate
from picolm.training.parallel import Ranks
from picolm.training.recorder import Recorder, StepRecord
from picolm.training.schedule import scheduled_rate
from picolm.training.state import TrainingState, memory_copy, optimizer_tensors
from picolm.training.structure import Active, Structure
from picolm.training.validation import Validation
from picolm.training.writer import host_copy

Evaluation = Callable[[int], Iterable[Mapping[str, Any]]]
"""The number of updates made -> lines for the log on what the checkpoint of that step knows."""


@dataclass(frozen=True, slots=True)
class Losses:
    """The loss of one step over its whole batch: scalars on the device, apart from the graph."""

    total: Tensor
    terms: dict[str, Tensor]
    """By name; `<term>.<figure>` is what a term found beside its loss."""


class Trainer:
    """Makes the updates of one run. Everything that it needs is handed to it."""

    def __init__(
        self,
        config: schema.Config,
        *,
        structure: Structure,
        live: Live,
        plan: Plan,
        batches: Batches,
        validation: Validation | None,
        recorder: Recorder | None,
        checkpoints: Checkpoints | None,
        average: WeightAverage | None = None,
        capture: Capture | None = None,
        evaluation: Evaluation | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """Prepare to train.

        Args:
            config: the whole configuration.
            structure: the model, what is minimised and the optimizer, as they are at the first step.
            live: the run as interventions see it.
            plan: which rows each step draws.
            batches: the views of each step.
            validation: held-out documents; None where there are none.
            recorder: the record of the run; None on a rank that writes nothing.
            checkpoints: where the run is saved; None where it is not.
            average: takes in the weights after each update; None where none is wanted.
            capture: looks at the model on its schedule; None where nothing is captured.
            evaluation: asks checkpoints what they know; None where nothing is asked.
            ranks: the processes of the run; None: this one alone.
        """
        self.config, self.training = config, config.training
        self.structure, self.live, self.plan, self.batches = structure, live, plan, batches
        self.validation, self.recorder, self.checkpoints = validation, recorder, checkpoints
        self.average, self.capture, self.ranks = average, capture, ranks or Ranks()
        self.evaluation = evaluation
        self.micro_batch_size = self.training.micro_batch_size or self.training.batch_size
        self.skipped = torch.zeros((), device=structure.device)
        self.rate = scheduled_rate(config.schedule, self.training.steps)
        for item in self.active:
            self.rate = item.intervention.schedule(self.rate)

    @property
    def active(self) -> Sequence[Active]:
        """The interventions, in order."""
        return self.structure.active

    @property
    def interventions(self) -> list[Intervention]:
        """The objects alone."""
        return [item.intervention for item in self.active]

    def run(self, interruption: Interruption) -> int:
        """Train to the last step, or to where a signal came; save the state; return the number of updates made."""
        self.structure.objective.train()
        done = self.batches.first
        if done == 0:
            self.look(done, None)
        else:
            # The kill may have come between the checkpoint and the questions.
            self.ask(done)
        for step in range(self.batches.first, self.batches.last):
            views = self.step(step)
            done = step + 1
            if done % self.training.flush_every == 0:
                self.flush(done)
            self.look(done, views)
            if self.ranks.tell(interruption.signal) is not None:
                break
        self.flush(done)
        if self.checkpoints is not None and done > self.batches.first and self.checkpoints.saved != done:
            self.save(done, whole=True)
        return done

    def step(self, step: int) -> tuple[View, ...]:
        """Make one step: structure, tables, rows, update. The views that it was made from are returned."""
        self.live.step = step
        if self.structure.changes(step) and step != self.batches.first:
            self.rebuild(step)
        for item in self.active:
            item.intervention.before_step(item.run)
        views = self.batches.take(step)
        self.update(step, views)
        return views

    def update(self, step: int, views: tuple[View, ...]) -> None:
        """Make one update from some views."""
        losses = self.accumulate(step, views)
        for item in self.active:
            item.intervention.gradients(item.run)
        norm = gradient_norm(list(self.structure.parameters.values()), self.training.gradient_clip)
        skip = 1.0 - (torch.isfinite(norm) & torch.isfinite(losses.total)).float()
        self.skipped = self.skipped + skip
        learning_rate = set_learning_rate(self.structure.optimizer, step, self.rate)
        if self.capture is not None:
            self.capture.before_update(step + 1)
        apply_update(self.structure.optimizer, skip=skip)
        self.live.step = step + 1
        for item in self.active:
            item.intervention.after_step(item.run)
        if self.average is not None:
            self.average.update(step + 1, skip=skip)
        self.log(step, losses, norm, learning_rate)

    def rebuild(self, step: int) -> None:
        """Give the run the structure of a stage, and tell those who hold a part of the old one."""
        self.structure.rebuild(step)
        if self.average is not None:
            self.average.follow(self.structure.objective)
        if self.capture is not None:
            self.capture.follow(self.structure.objective, self.structure.optimizer)

    def accumulate(self, step: int, views: tuple[View, ...]) -> Losses:
        """Run every micro-batch of every view forward and backward; gradients add up, here and over the ranks."""
        objective, device = self.structure.objective, self.structure.device
        terms: dict[str, Tensor] = {}
        total = torch.zeros((), device=device)
        number = 0
        for view in filter(objective.reads, views):
            units = view.n_units
            share, counts = view.share(self.ranks.rank, self.ranks.size)
            for part in share.cut(self.micro_batch_size):
                torch.manual_seed(self.dropout_seed(step, number))
                with autocast(self.training, device):
                    sums = objective(part.to(device))
                loss = objective.total(sums, units) * float(counts)
                loss.backward()  # type: ignore[no-untyped-call]
                total = total + loss.detach()
                for name, value in sums.items():
                    mean = value.detach() / max(units, 1) * float(counts)
                    terms[name] = terms.get(name, torch.zeros_like(total)) + mean
                number += 1
        parameters = list(self.structure.parameters.values())
        self.ranks.share_gradients(parameters)
        self.ranks.sum([total, *terms.values(), *(p.grad for p in parameters if p.grad is not None)])
        return Losses(total, terms)

    def dropout_seed(self, step: int, number: int) -> int:
        """The key of the dropout masks of a micro-batch; the first rank has those of a run of one process."""
        rank = () if self.ranks.is_first else (self.ranks.rank,)
        return derive_seed(self.config.seeds.dropout, "dropout", step, number, *rank)

    def log(self, step: int, losses: Losses, norm: Tensor, learning_rate: float) -> None:
        """Take note of a step: where the schedule of the log asks for it, and where an intervention left a trace."""
        trace = self.live.take_trace()
        if self.recorder is None or not (trace or (step + 1) % self.training.log_every == 0):
            return
        sequences, terms = self.plan.start(step + 1), self.structure.objective.terms
        record = StepRecord(
            step=step + 1,
            loss=losses.total,
            losses={name: value for name, value in losses.terms.items() if name in terms},
            figures={name: value for name, value in losses.terms.items() if name not in terms},
            learning_rate=learning_rate,
            gradient_norm=norm,
            skipped=self.skipped,
            tokens=sequences * self.config.data.sequence_length,
            sequences=sequences,
            trace=trace,
        )
        self.recorder.keep(record)

    def look(self, done: int, views: tuple[View, ...] | None) -> None:
        """Do what the schedules ask for after `done` updates: validate, capture, save, and ask what was saved."""
        if done == self.training.steps or self.config.validation.includes(done):
            self.validate(done)
        if self.capture is not None and self.capture.due(done):
            self.take(done, views)
        if self.checkpoints is not None and self.checkpoints.due(done):
            self.save(done, whole=self.checkpoints.wants_state(done))
        self.ask(done)

    def validate(self, done: int) -> None:
        """Measure the held-out loss and write it into the log."""
        if self.validation is None:
            return
        self.flush(done)
        started, model, device = time.perf_counter(), self.structure.objective.model, self.structure.device
        record = self.validation(model, device)
        if self.average is not None and self.average.began:
            with self.average.in_place():
                record["ema"] = self.validation(model, device)
        if self.recorder is not None:
            self.recorder.write({"event": "validation", "step": done, **record})
            self.recorder.leave_out(time.perf_counter() - started)

    def take(self, done: int, views: tuple[View, ...] | None) -> None:
        """Capture what the model looks like after `done` updates, the last of them from `views`."""
        assert self.capture is not None and self.recorder is not None
        self.flush(done)
        started = time.perf_counter()
        self.capture.take(done, views)
        self.recorder.leave_out(time.perf_counter() - started)

    def save(self, done: int, *, whole: bool) -> None:
        """Save the model or, to resume from, the whole state; the disk is not waited for."""
        assert self.checkpoints is not None and self.recorder is not None
        self.flush(done)
        started = time.perf_counter()
        state = self.state(done, whole=whole)
        model = self.structure.objective.model
        models = {".": export(model, state.parameters, self.interventions)}
        if state.average:
            # The average knows the trainable parameters only.
            weights = {name: tensor for name, tensor in state.average.items() if name != UPDATES}
            models[AVERAGE] = export(model, {**state.parameters, **weights}, self.interventions)
        self.checkpoints.save(state, models, self.recorder.marks, whole=whole)
        self.recorder.leave_out(time.perf_counter() - started)

    def ask(self, done: int) -> None:
        """Ask the model of this step what it knows, as it stands on the disk, where the schedule asks for it."""
        if self.evaluation is None or not self.config.asks(done):
            return
        assert self.checkpoints is not None and self.recorder is not None
        started = time.perf_counter()
        self.checkpoints.writer.wait()
        for line in self.evaluation(done):
            self.recorder.write({"event": "evaluation", "step": done, **line})
        self.recorder.leave_out(time.perf_counter() - started)

    def state(self, done: int, *, whole: bool) -> TrainingState:
        """Copy to the host: everything, or only what the saved models need."""
        kept = {**self.structure.resting, **optimizer_tensors(self.structure.optimizer)} if whole else {}
        return TrainingState(
            step=done,
            skipped=int(self.skipped),
            parameters=host_copy(self.structure.objective.state_dict()),
            optimizer=host_copy(kept),
            average={} if self.average is None else host_copy(self.average.tensors()),
            interventions={
                item.name: memory_copy(item.intervention.state_dict(), owner=item.name) for item in self.active if whole
            },
        )

    def restore(self, state: TrainingState) -> None:
        """Take up what a saved state says beside the structure, which was built from it."""
        self.skipped = torch.tensor(float(state.skipped), device=self.structure.device)
        if self.average is not None:
            self.average.restore(state.average)

    def flush(self, done: int) -> None:
        """Write what is pending; the one place, beside validation, where the host waits for the device."""
        if self.recorder is None:
            return
        self.recorder.flush()
        if done > self.recorder.timed_step:
            self.recorder.time(done, self.plan.start(done) * self.config.data.sequence_length)
