"""The loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from picolm.config import schema
from picolm.randomness import derive_seed
from picolm.seams import Objective, Plan, View
from picolm.training.averaging import WeightAverage
from picolm.training.batches import Batches
from picolm.training.capture import Capture
from picolm.training.interruption import Interruption
from picolm.training.numerics import autocast
from picolm.training.optimizer import apply_update, build_optimizer, gradient_norm, set_learning_rate
from picolm.training.recorder import Recorder, StepRecord
from picolm.training.schedule import learning_rate_multiple
from picolm.training.validation import Validation


@dataclass(frozen=True, slots=True)
class Losses:
    """The loss of one step over its whole batch: scalars on the device, apart from the graph."""

    total: Tensor
    terms: dict[str, Tensor]


class Trainer:
    """Makes the updates of one run. Everything that it needs is handed to it."""

    def __init__(
        self,
        config: schema.Config,
        *,
        objective: Objective,
        plan: Plan,
        batches: Batches,
        validation: Validation | None,
        recorder: Recorder,
        device: torch.device,
        save: Callable[[int], None],
        average: WeightAverage | None = None,
    ) -> None:
        """Prepare to train.

        Args:
            config: the whole configuration.
            objective: the model and what is minimised, on `device`.
            plan: which rows each step draws.
            batches: the views of each step.
            validation: held-out documents; None where there are none.
            recorder: the record of the run.
            device: where the objective lives.
            save: writes a checkpoint of the model after the given number of updates.
            average: takes in the weights after each update; None where none is wanted.
        """
        self.config, self.training = config, config.training
        self.objective, self.plan, self.batches, self.validation = objective, plan, batches, validation
        self.recorder, self.device, self.save, self.average = recorder, device, save, average
        self.optimizer = build_optimizer(
            objective.model, objective.heads, config.optimizer, precision=config.training.precision
        )
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.micro_batch_size = self.training.micro_batch_size or self.training.batch_size
        self.skipped = torch.zeros((), device=device)
        # Looks at the model on its schedule. Made after the trainer, because it looks at the optimizer too.
        self.capture: Capture | None = None

    def run(self, interruption: Interruption) -> int:
        """Train to the last step, or to where a signal came; save the model; return the number of updates made."""
        self.objective.train()
        done = self.batches.first
        if done == 0 and self.config.validation.includes(0):
            self.validate(done)
        if done == 0:
            self.look(done, None)
        for step, views in self.batches:
            self.step(step, views)
            done = step + 1
            if done % self.training.flush_every == 0:
                self.flush(done)
            if self.validation_is_due(done):
                self.validate(done)
            self.look(done, views)
            if interruption.signal is not None:
                break
        self.flush(done)
        self.save(done)
        return done

    def step(self, step: int, views: tuple[View, ...]) -> None:
        """Make one update."""
        losses = self.accumulate(step, views)
        norm = gradient_norm(self.parameters, self.training.gradient_clip)
        skip = 1.0 - (torch.isfinite(norm) & torch.isfinite(losses.total)).float()
        self.skipped = self.skipped + skip
        multiple = learning_rate_multiple(self.config.schedule, step, self.training.steps)
        learning_rate = self.config.optimizer.learning_rate * multiple
        set_learning_rate(self.optimizer, multiple)
        if self.capture is not None:
            self.capture.before_update(step + 1)
        apply_update(self.optimizer, skip=skip)
        if self.average is not None:
            self.average.update(step + 1, skip=skip)
        if (step + 1) % self.training.log_every == 0:
            self.recorder.keep(self.describe(step, losses, norm, learning_rate))

    def accumulate(self, step: int, views: tuple[View, ...]) -> Losses:
        """Run every micro-batch of every view forward and backward; gradients add up in the parameters."""
        terms: dict[str, Tensor] = {}
        total = torch.zeros((), device=self.device)
        number = 0
        for view in views:
            units = view.n_units
            for part in view.cut(self.micro_batch_size):
                torch.manual_seed(derive_seed(self.config.seeds.dropout, "dropout", step, number))
                with autocast(self.training, self.device):
                    sums = self.objective(part.to(self.device))
                loss = self.objective.total(sums, units)
                loss.backward()  # type: ignore[no-untyped-call]
                total = total + loss.detach()
                for name, value in sums.items():
                    terms[name] = terms.get(name, torch.zeros_like(total)) + value.detach() / max(units, 1)
                number += 1
        return Losses(total, terms)

    def describe(self, step: int, losses: Losses, norm: Tensor, learning_rate: float) -> StepRecord:
        """What the log will say of a step."""
        sequences = self.plan.start(step + 1)
        return StepRecord(
            step=step + 1,
            loss=losses.total,
            losses=losses.terms,
            learning_rate=learning_rate,
            gradient_norm=norm,
            skipped=self.skipped,
            tokens=sequences * self.config.data.sequence_length,
            sequences=sequences,
        )

    def validation_is_due(self, done: int) -> bool:
        """Whether the schedule asks for a validation after `done` updates; the last step always does."""
        return done == self.training.steps or self.config.validation.includes(done)

    def validate(self, done: int) -> None:
        """Measure the held-out loss and write it into the log."""
        if self.validation is None:
            return
        self.flush(done)
        started = time.perf_counter()
        record = self.validation(self.objective, self.device)
        if self.average is not None and self.average.began:
            with self.average.in_place():
                record["ema"] = self.validation(self.objective, self.device)
        self.recorder.write({"event": "validation", "step": done, **record})
        self.recorder.leave_out(time.perf_counter() - started)

    def look(self, done: int, views: tuple[View, ...] | None) -> None:
        """Capture what the model looks like after `done` updates, if the schedule asks for it."""
        if self.capture is None or not self.capture.due(done):
            return
        self.flush(done)
        started = time.perf_counter()
        self.capture.take(done, views)
        self.recorder.leave_out(time.perf_counter() - started)

    def flush(self, done: int) -> None:
        """Write what is pending; the one place, beside validation, where the host waits for the device."""
        self.recorder.flush()
        if done > self.recorder.timed_step:
            self.recorder.time(done, self.plan.start(done) * self.config.data.sequence_length)
