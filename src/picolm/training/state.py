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
from picolm.model.huggingface import read_parameters

FORMAT = 1
STATE = "state"
"""Where in a checkpoint the things stand that only a resume needs."""
MODEL = "model."
"""What the names of the model's parameters begin with in an `Objective`."""

LIVE_FILE = "live.safetensors"
"""Parameters that stand nowhere else in a checkpoint: heads, and what an export changed, in its live form."""

_FACTS, _OPTIMIZER, _AVERAGE = "state.json", "optimizer.safetensors", "average.safetensors"
_REMEMBERED = "interventions.safetensors"
_SEPARATOR = "/"
"""Between a parameter's name and what the optimizer keeps of it; an intervention's name and what it remembers."""

Memory = dict[str, Any]
"""What an intervention remembers: JSON values and tensors, by name."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Where training stands after some updates. Tensors are on the CPU and shared with nothing.

    Attributes:
        step: updates made.
        skipped: updates that were skipped because something was not finite.
        parameters: of the objective, by name.
        optimizer: what the optimizer keeps of each parameter: `<parameter>/<key>`.
        average: the averaged weights by name, and `updates`, how many went into them; empty where there are none.
        interventions: what each remembers, by its name.
    """

    step: int
    skipped: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    average: dict[str, Tensor]
    interventions: dict[str, Memory]

    def write(self, directory: Path, saved: Mapping[str, Tensor]) -> None:
        """Write what stands nowhere else into an existing directory.

        Args:
            directory: the checkpoint's `state/`.
            saved: the parameters of the model as the checkpoint holds them, by our names.
        """
        plain = {name: _values(memory) for name, memory in self.interventions.items()}
        facts = {"format": FORMAT, "step": self.step, "skipped": self.skipped, "interventions": plain}
        (directory / _FACTS).write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        remembered = {
            f"{name}{_SEPARATOR}{key}": value.detach().cpu().contiguous()
            for name, memory in self.interventions.items()
            for key, value in memory.items()
            if isinstance(value, Tensor)
        }
        # What an export changed (merged adapters) stands here in its live form.
        live = {name: tensor for name, tensor in self.parameters.items() if not _is_saved(name, tensor, saved)}
        parts = {LIVE_FILE: live, _OPTIMIZER: self.optimizer, _AVERAGE: self.average, _REMEMBERED: remembered}
        for file, tensors in parts.items():
            if tensors:
                save_tensors(tensors, directory / file)

    @classmethod
    def read(cls, checkpoint: Path) -> TrainingState:
        """Read a checkpoint that has a state.

        Raises:
            PicoLMError: a file is missing, damaged or of a newer format.
        """
        facts = _read_facts(checkpoint / STATE / _FACTS)
        directory = checkpoint / STATE
        saved = {f"{MODEL}{name}": tensor for name, tensor in read_parameters(checkpoint).items()}
        memories: dict[str, Memory] = facts["interventions"]
        for key, tensor in _tensors(directory / _REMEMBERED).items():
            name, _, entry = key.partition(_SEPARATOR)
            memories.setdefault(name, {})[entry] = tensor
        return cls(
            step=facts["step"],
            skipped=facts["skipped"],
            parameters={**saved, **_tensors(directory / LIVE_FILE)},
            optimizer=_tensors(directory / _OPTIMIZER),
            average=_tensors(directory / _AVERAGE),
            interventions=memories,
        )


def memory_copy(memory: Mapping[str, Any], *, owner: str = "an intervention") -> Memory:
    """What an intervention remembers, as it is now: training cannot change the copy.

    Raises:
        PicoLMError: it remembers something that is neither a tensor nor JSON.
    """
    copied: Memory = {}
    for key, value in memory.items():
        try:
            is_tensor = isinstance(value, Tensor)
            copied[key] = value.detach().to("cpu", copy=True) if is_tensor else json.loads(json.dumps(value))
        except (TypeError, ValueError) as error:
            raise PicoLMError(
                f"{owner} remembers in '{key}' what is neither a tensor nor a JSON value: {error}"
            ) from None
    return copied


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


def _values(memory: Memory) -> Memory:
    return {key: value for key, value in memory.items() if not isinstance(value, Tensor)}


def _is_saved(name: str, tensor: Tensor, saved: Mapping[str, Tensor]) -> bool:
    other = saved.get(name.removeprefix(MODEL)) if name.startswith(MODEL) else None
    return other is tensor or (other is not None and other.shape == tensor.shape and torch.equal(other, tensor))


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        if facts["format"] > FORMAT:
            raise PicoLMError(f"{path} has format {facts['format']}, this PicoLM reads up to {FORMAT}: upgrade PicoLM")
        remembered = {name: dict(memory) for name, memory in dict(facts["interventions"]).items()}
        return {"step": int(facts["step"]), "skipped": int(facts["skipped"]), "interventions": remembered}
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, PicoLMError):
            raise
        raise PicoLMError(f"{path} is damaged: {error!r}") from None


def _tensors(path: Path) -> dict[str, Tensor]:
    return load_tensors(path) if path.is_file() else {}
