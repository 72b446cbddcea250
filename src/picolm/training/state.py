"""The whole state of training on the host: what is saved, and what a resumed run takes up again.

What a run draws is keyed by step, so there is no generator and no data loader to save. What is left is the model, what
is trained beside it, the optimizer, the average, and how many updates were skipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from picolm.errors import PicoLMError
from picolm.model.files import load_tensors, save_tensors
from picolm.model.huggingface import load_weights
from picolm.seams import Objective
from picolm.training.averaging import WeightAverage
from picolm.training.writer import host_copy

FORMAT = 1
STATE = "state"
"""Where in a checkpoint the things stand that only a resume needs."""
MODEL = "model."
"""What the names of the model's parameters begin with in an `Objective`."""

_FACTS, _LIVE, _OPTIMIZER, _AVERAGE = "state.json", "live.safetensors", "optimizer.safetensors", "average.safetensors"
_SEPARATOR = "/"
"""Between a parameter's name and what the optimizer keeps of it."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Where training stands after some updates. Tensors are on the CPU and shared with nothing.

    Attributes:
        step: updates made.
        skipped: updates that were skipped because something was not finite.
        parameters: of the objective, by name.
        optimizer: what the optimizer keeps of each parameter: `<parameter>/<key>`.
        average: the averaged weights by name, and `updates`, how many went into them; empty where there are none.
    """

    step: int
    skipped: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    average: dict[str, Tensor]

    @classmethod
    def of(
        cls,
        step: int,
        *,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        skipped: Tensor,
        average: WeightAverage | None,
        whole: bool,
    ) -> TrainingState:
        """Copy to the host: everything, or only what the saved models need."""
        return cls(
            step=step,
            skipped=int(skipped),
            parameters=host_copy(objective.state_dict()),
            optimizer=host_copy(optimizer_tensors(optimizer)) if whole else {},
            average={} if average is None else host_copy(average.tensors()),
        )

    def write(self, directory: Path) -> None:
        """Write what stands nowhere else into an existing directory; the model's parameters stand in the checkpoint."""
        facts = {"format": FORMAT, "step": self.step, "skipped": self.skipped}
        (directory / _FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        live = {name: tensor for name, tensor in self.parameters.items() if not name.startswith(MODEL)}
        for file, tensors in ((_LIVE, live), (_OPTIMIZER, self.optimizer), (_AVERAGE, self.average)):
            if tensors:
                save_tensors(tensors, directory / file)

    @classmethod
    def read(cls, checkpoint: Path, shapes: Mapping[str, torch.Size]) -> TrainingState:
        """Read a checkpoint.

        Args:
            checkpoint: its directory.
            shapes: the objective's parameters that it must hold.

        Raises:
            PicoLMError: a file is missing, damaged or of a newer format.
        """
        facts = read_facts(checkpoint)
        directory = checkpoint / STATE
        live = _tensors(directory / _LIVE)
        rest = {name.removeprefix(MODEL): shape for name, shape in shapes.items() if name not in live}
        model = {f"{MODEL}{name}": tensor for name, tensor in load_weights(checkpoint, rest).items()}
        return cls(
            step=facts["step"],
            skipped=facts["skipped"],
            parameters={**model, **live},
            optimizer=_tensors(directory / _OPTIMIZER),
            average=_tensors(directory / _AVERAGE),
        )

    def restore(self, objective: Objective, optimizer: torch.optim.Optimizer, average: WeightAverage | None) -> None:
        """Put everything back; the same tensors as at the save, bit for bit."""
        own = objective.state_dict()
        assert own.keys() == self.parameters.keys(), "a checkpoint holds the objective's parameters and no others"
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(self.parameters[name])
        restore_optimizer(optimizer, self.optimizer)
        if average is not None:
            average.restore(self.average)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimizer keeps, by `<parameter>/<key>`: `layers.0.mlp.up_proj.weight/exp_avg`."""
    return {
        f"{name}{_SEPARATOR}{key}": value
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give each parameter what was kept of it, by name; parameters of which nothing was kept begin anew."""
    kept: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, entry = key.rpartition(_SEPARATOR)
        kept.setdefault(name, {})[entry] = tensor
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            if name in kept:
                # A copy: what was read from a file may lie at any address, and kernels may care.
                state = {entry: tensor.to(parameter.device, copy=True) for entry, tensor in kept[name].items()}
                optimizer.state[parameter] = state


def read_facts(checkpoint: Path) -> dict[str, Any]:
    """What `state.json` of a checkpoint says.

    Raises:
        PicoLMError: it is missing, damaged or of a newer format.
    """
    path = checkpoint / STATE / _FACTS
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        if facts["format"] > FORMAT:
            raise PicoLMError(f"{path} has format {facts['format']}, this PicoLM reads up to {FORMAT}: upgrade PicoLM")
        return {**facts, "step": int(facts["step"]), "skipped": int(facts["skipped"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, PicoLMError):
            raise
        raise PicoLMError(f"{path} is damaged: {error!r}") from None


def _tensors(path: Path) -> dict[str, Tensor]:
    return load_tensors(path) if path.is_file() else {}
