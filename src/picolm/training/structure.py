"""The model, what is minimised and the optimizer as they are at a step; built, and built again where structure changes.

There is one way to get there: from the configuration, through every intervention, and then each parameter and each
moment takes up its value by name. Starting, resuming and passing a stage are the same, so a resumed run is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.compilation import compile_blocks
from picolm.model.initialization import build_model
from picolm.model.interface import LanguageModel
from picolm.seams import GROUP_KEYS, Formulation, Group, Intervention, Objective, Run
from picolm.training.exporting import exports
from picolm.training.optimizer import build_optimizer, parameter_groups
from picolm.training.state import MODEL, optimizer_tensors, restore_optimizer


@dataclass(frozen=True, slots=True)
class Active:
    """An intervention of a run, by its name, and the run as it sees it."""

    name: str
    intervention: Intervention
    run: Run


class Structure:
    """What is trained, and by which optimizer, at a step."""

    def __init__(
        self, config: schema.Config, formulation: Formulation, active: Sequence[Active], device: torch.device
    ) -> None:
        """Prepare to build.

        Args:
            config: the whole configuration.
            formulation: what is minimised before any intervention.
            active: the interventions, in order.
            device: where it will live.
        """
        self.config, self.formulation, self.active, self.device = config, formulation, active, device
        self.resting: dict[str, Tensor] = {}
        """What the optimizer kept of parameters that are there but are not trained now."""
        self._stages = [item.intervention.stages() for item in active]
        self.objective: Objective
        self.optimizer: torch.optim.AdamW

    def build(
        self, step: int, parameters: Mapping[str, Tensor] | None = None, optimizer: Mapping[str, Tensor] | None = None
    ) -> None:
        """Build everything as it is at a step.

        Args:
            step: updates made.
            parameters: values by name, from `Objective.state_dict`; None: as they are initialized.
            optimizer: what it kept, from `optimizer_tensors`; None: nothing.

        Raises:
            PicoLMError: an intervention took away, renamed or reshaped a parameter of the model, or added some and
                cannot export the model.
        """
        model: LanguageModel = build_model(self.config.model, self.config.seeds.init)
        base = set(model.state_dict())
        for item in self.active:
            model = item.intervention.model(model, step, item.run)
            lost = sorted(base - set(model.state_dict()))
            if lost:
                raise PicoLMError(
                    f"{item.name} took the parameter {lost[0]} out of the model: wrap it and keep its name"
                )
        if set(model.state_dict()) != base and not any(exports(item.intervention) for item in self.active):
            added = min(set(model.state_dict()) - base)
            raise PicoLMError(
                f"the parameter {added} was added to the model, but no intervention has an `export`, which says how "
                "the model is saved: return a plain copy, or None where there is none"
            )
        objective = Objective(model, self.formulation.terms())
        for item in self.active:
            objective = item.intervention.objective(objective, step, item.run)
        if parameters is not None:
            _take_up(objective, parameters)
        self.objective = objective.to(self.device)
        if self.config.training.compile:
            compile_blocks(self.objective.model.blocks)
        self.optimizer = build_optimizer(
            self._groups(), self.config.optimizer, precision=self.config.training.precision
        )
        kept = dict(optimizer or {})
        restore_optimizer(self.optimizer, kept)
        # Of a parameter that is gone nothing is kept: should it come back, it has another value.
        resting = {name.removeprefix(MODEL) for name in self.objective.state_dict()} - self.parameters.keys()
        self.resting = {key: tensor for key, tensor in kept.items() if key.rpartition("/")[0] in resting}

    def changes(self, step: int) -> bool:
        """Whether a step is a stage of any intervention."""
        return any(step in stages for stages in self._stages)

    def rebuild(self, step: int) -> None:
        """Build anew at a stage, from what is there."""
        if self.config.training.compile:
            # What was compiled for the old blocks would only be kept, and counts against a limit.
            torch._dynamo.reset()
        was_training = self.objective.training
        kept = {**self.resting, **optimizer_tensors(self.optimizer)}
        self.build(step, self.objective.state_dict(), kept)
        self.objective.train(was_training)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name: the model's parameters, and those of heads as `heads.<term>.<name>`."""
        return {
            name: parameter
            for group in self.optimizer.param_groups
            for name, parameter in zip(group["names"], group["params"], strict=True)
        }

    def _groups(self) -> list[Group]:
        groups = parameter_groups(self.objective.model, self.objective.heads, self.config.optimizer)
        wanted = sorted(name for group in groups for name in group["names"])
        for item in self.active:
            groups = item.intervention.groups(groups)
            lacking = sorted({key for group in groups for key in GROUP_KEYS - group.keys()})
            if lacking:
                raise PicoLMError(f"a parameter group of {item.name} has no '{lacking[0]}'")
            if sorted(name for group in groups for name in group["names"]) != wanted:
                raise PicoLMError(f"the parameter groups of {item.name} do not hold every trainable parameter once")
        return groups


def _take_up(objective: Objective, parameters: Mapping[str, Tensor]) -> None:
    """Copy values by name; parameters that are new keep theirs, values whose parameter is gone are passed over."""
    with torch.no_grad():
        for name, tensor in objective.state_dict().items():
            if name in parameters:
                if parameters[name].shape != tensor.shape:
                    raise PicoLMError(
                        f"the parameter {name.removeprefix(MODEL)} has the shape {list(tensor.shape)} now and had "
                        f"{list(parameters[name].shape)} before: give what has another shape another name"
                    )
                tensor.copy_(parameters[name])
