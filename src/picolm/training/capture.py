"""Capture: what the inside of a model looks like while it learns, at the steps of a schedule of its own.

The loop calls three things: `due`, `before_update` and `take`. None of them changes the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from picolm.config import schema
from picolm.data.split import Split
from picolm.model.sites import sites_of
from picolm.runs.directory import RunDirectory
from picolm.runs.tables import Measured
from picolm.seams import Formulation, Intervention, Measurement, Need, Objective, View
from picolm.text.tokenizer import Tokenizer
from picolm.training.capture_files import CaptureFiles
from picolm.training.capture_size import check_room
from picolm.training.eager import eager_twin
from picolm.training.exporting import saved_form, saved_shapes
from picolm.training.inspection import Batch, Findings, Wanted, by_view, inspect
from picolm.training.measuring import Measuring, Supply
from picolm.training.probes import build_probes
from picolm.training.selection import module_of, parameters_of, select_stored
from picolm.training.step_metrics import Seen, StepMetrics
from picolm.training.writer import Writer

TRAIN = "train"
"""What the batch of the last update is called among the probes."""

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class _State:
    """What does not depend on a batch, on the host, by parameter."""

    weights: Mapping[str, Tensor]
    moments: Mapping[str, Mapping[str, Tensor]]
    updates: Mapping[str, Tensor]

    def supply(self) -> Supply:
        """The same by site, for measurements."""
        return {"weight": _by_site(self.weights), "moment": _by_site(self.moments), "update": _by_site(self.updates)}


class Capture:
    """Looks at a model on fixed batches and leaves what it saw in the run."""

    def __init__(
        self,
        config: schema.Config,
        *,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        probes: Mapping[str, Batch],
        run: RunDirectory,
        writer: Writer,
        device: torch.device,
        measurements: Sequence[Measurement] = (),
        metrics: StepMetrics | None = None,
        interventions: Sequence[Intervention] = (),
        committed: Callable[[Path], None] = lambda path: None,
    ) -> None:
        """Prepare to capture.

        Args:
            config: of the run.
            objective: the model and what is minimised, on `device`.
            optimizer: whose groups have `names` beside `params`.
            probes: the fixed batches, by name.
            run: where captures stand.
            writer: puts them on the disk while training goes on.
            device: where the objective lives.
            measurements: metrics that are computed at each capture; tensors that only they need are not stored.
            metrics: those that the configuration names, for which the same holds; None: it names none.
            interventions: what they export is what weights are to `metrics`, as it is to readers of checkpoints.
            committed: told the path of each capture and of each table of metrics once it is whole, on the writer's
                thread.

        Raises:
            PicoLMError: a pattern of the configuration or of a measurement names nothing.
        """
        self.config, self.probes, self.measurements = config, dict(probes), tuple(measurements)
        self.metrics, self.interventions = metrics, tuple(interventions)
        self.writer, self.device, self._files = writer, device, CaptureFiles(config.capture, run, committed)
        self._before: dict[str, Tensor] = {}
        self.follow(objective, optimizer, strict=True)

    def follow(self, objective: Objective, optimizer: torch.optim.Optimizer, *, strict: bool = False) -> None:
        """Look at this objective and optimizer from now on, as when structure changed.

        Args:
            objective: as in the constructor.
            optimizer: as in the constructor.
            strict: whether a pattern must name something; when structure changes, it may be gone.

        Raises:
            PicoLMError: a pattern of the configuration or of a measurement names nothing.
        """
        self.objective, self.optimizer = objective, optimizer
        sites, self._parameters = sites_of(objective.model), parameters_of(optimizer.param_groups)
        # What is not trained at this step has weights, but no gradient, moment or update.
        self._weights = {**dict(objective.model.named_parameters()), **self._parameters}
        terms = [name for name, term in objective.terms.items() if term.token_losses is not None]
        self.stored = select_stored(self.config.capture, objective.model, optimizer.param_groups, strict=strict)
        self.measuring = Measuring(self.measurements, sites=sites, parameters=self._weights, terms=terms, strict=strict)
        if self.metrics is not None:
            shapes = saved_shapes(objective.model, self.interventions)
            self.metrics.follow(
                shapes={module_of(name): shape for name, shape in shapes.items()},
                sites=sites,
                gradients={module_of(name) for name in self._weights},
                strict=strict,
            )
        seen = self._measured("activation") | self.stored.sites.keys()
        self.wanted = Wanted(
            sites={name: site for name, site in sites.items() if name in seen},
            parameters=self._with_measured("gradient", self.stored.gradients),
            token_losses=self.config.capture.token_losses or bool(self.measuring.sites("token_loss")),
            positions=self.config.capture.positions,
        )
        self._moments = self._with_measured("moment", self.stored.moments)
        self._updates = self._with_measured("update", self.stored.updates)

    def due(self, done: int) -> bool:
        """Whether the schedule asks for a capture after `done` updates."""
        return self.config.capture.includes(done)

    def before_update(self, done_after: int) -> None:
        """Keep what the coming update will change, if a capture follows it.

        Args:
            done_after: the number of updates when the coming one is made.
        """
        if self.due(done_after):
            self._before = {name: parameter.detach().clone() for name, parameter in self._updates.items()}

    def take(self, done: int, views: tuple[View, ...] | None) -> None:
        """Look at the model after `done` updates; what was seen is written while training goes on.

        Args:
            done: updates made.
            views: those of the last update; None where there was none, or it is not known.
        """
        before, self._before = self._before, {}
        reads = self.objective.reads
        batches = {name: batch for name, batch in self.probes.items() if reads(batch.view)}
        if self.config.capture.train_batch and views is not None:
            kinds = {term.view for term in self.objective.terms.values()}
            batches |= by_view(TRAIN, [view for view in views if view.n_rows and reads(view)], alone=len(kinds) == 1)
        found = {name: self._inspect(batch) for name, batch in batches.items()}
        state = self._state(before)
        # A measurement may draw at random: on the twin, nothing outside sees that.
        with eager_twin(self.objective, self.device):
            rows = self.measuring(done, state.supply(), {name: _supply(one) for name, one in found.items()})
            rows += self._metrics(done, batches, found)
        files = {name: self._of_batch(name, batches[name], one) for name, one in found.items()}
        files["optimizer"] = self._of_optimizer(state)
        self.writer.submit(partial(self._files.write, done, files, rows))

    def _metrics(self, done: int, batches: Mapping[str, Batch], found: Mapping[str, Findings]) -> list[Measured]:
        if self.metrics is None:
            return []
        needed = self.metrics.sites("weight")
        weights = saved_form(self.objective.model, self.interventions, lambda name: module_of(name) in needed)
        seen = {name: Seen(batches[name], one, is_probe=name in self.probes) for name, one in found.items()}
        return self.metrics.rows(done, {module_of(name): tensor for name, tensor in weights.items()}, seen)

    def _inspect(self, batch: Batch) -> Findings:
        training = self.config.training
        batch_size = self.config.capture.batch_size or training.micro_batch_size or training.batch_size
        return inspect(self.objective, batch, self.wanted, batch_size=batch_size, device=self.device)

    def _state(self, before: Mapping[str, Tensor]) -> _State:
        measured = self.measuring.sites("weight")
        weights = {name: p for name, p in self._weights.items() if module_of(name) in measured}
        return _State(
            weights={name: _copy(parameter) for name, parameter in weights.items()},
            moments={name: found for name, p in self._moments.items() if (found := self._moments_of(p))},
            updates={name: (self._parameters[name].detach() - old).cpu() for name, old in before.items()},
        )

    def _moments_of(self, parameter: Tensor) -> dict[str, Tensor]:
        # `state[p]` would make an entry. Step counts are no moments: they have not the parameter's shape.
        state: Mapping[str, Any] = self.optimizer.state.get(parameter, {})
        return {
            name: _copy(value)
            for name, value in state.items()
            if isinstance(value, Tensor) and value.shape == parameter.shape
        }

    def _measured(self, need: Need) -> set[str]:
        """Where something is needed that need not be stored."""
        named = () if self.metrics is None else self.metrics.sites(need)
        return self.measuring.sites(need) | set(named)

    def _with_measured(self, need: Need, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        measured = self._measured(need)
        return {name: p for name, p in self._parameters.items() if name in stored or module_of(name) in measured}

    def _of_batch(self, name: str, batch: Batch, findings: Findings) -> dict[str, Tensor]:
        tensors = {
            **{f"activation/{site}": self._stored(findings.activations[site]) for site in self.stored.sites},
            **{f"gradient/{one}": self._stored(findings.gradients[one]) for one in self.stored.gradients},
        }
        if self.config.capture.token_losses:
            # Always in float32: three digits of a loss would be too few for a trajectory.
            losses = findings.token_losses.items()
            tensors |= {f"token_loss/{term}": values.float().contiguous() for term, values in losses}
        if name not in self.probes:
            fields = sorted(batch.view.token_fields)
            tensors |= {f"batch/{field}": batch.view.tensors[field].to(torch.int32).cpu() for field in fields}
        return tensors

    def _of_optimizer(self, state: _State) -> dict[str, Tensor]:
        moments = {
            f"moment/{kind}/{name}": self._stored(tensor)
            for name in self.stored.moments
            for kind, tensor in state.moments.get(name, {}).items()
        }
        updates = {name: state.updates[name] for name in self.stored.updates if name in state.updates}
        return moments | {f"update/{name}": self._stored(tensor) for name, tensor in updates.items()}

    def _stored(self, tensor: Tensor) -> Tensor:
        return tensor.to(_DTYPES[self.config.capture.dtype]).contiguous()


def build_capture(
    config: schema.Config,
    *,
    held_out: Split,
    tokenizer: Tokenizer,
    formulation: Formulation,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    run: RunDirectory,
    writer: Writer,
    device: torch.device,
    done: int = 0,
    measurements: Sequence[Measurement] = (),
    metrics: StepMetrics | None = None,
    interventions: Sequence[Intervention] = (),
    committed: Callable[[Path], None] = lambda path: None,
) -> Capture | None:
    """Make the capture of a run, and its probes; None where the schedule names no step.

    Args:
        config: of the run.
        held_out: the split of held-out documents, which may be empty.
        tokenizer: of the run.
        formulation: what is minimised.
        objective: as `Capture`.
        optimizer: as `Capture`.
        run: as `Capture`.
        writer: as `Capture`.
        device: as `Capture`.
        done: updates made already, where the run is resumed.
        measurements: as `Capture`.
        metrics: as `Capture`.
        interventions: as `Capture`.
        committed: as `Capture`.

    Raises:
        PicoLMError: the captures would take too much room, a probe finds no text, or a pattern names nothing.
    """
    if not config.capture.is_wanted:
        return None
    check_room(config, run.path, after=done if done else -1)
    probes = build_probes(
        config, held_out=held_out, tokenizer=tokenizer, formulation=formulation, run=run.path, committed=committed
    )
    return Capture(
        config,
        objective=objective,
        optimizer=optimizer,
        probes=probes,
        run=run,
        writer=writer,
        device=device,
        measurements=measurements,
        metrics=metrics,
        interventions=interventions,
        committed=committed,
    )


def _supply(findings: Findings) -> Supply:
    return {
        "activation": findings.activations,
        "gradient": _by_site(findings.gradients),
        "token_loss": findings.token_losses,
    }


def _by_site(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {module_of(name): value for name, value in parameters.items()}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
