"""What captures take on disk, from shapes alone; and the refusal of a run whose captures would fill it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.interface import LanguageModel
from picolm.model.sites import recorded
from picolm.model.transformer import Transformer
from picolm.training.optimizer import parameter_groups
from picolm.training.selection import Selection, parameters_of, select_stored

_ITEM_BYTES = {"fp32": 4, "bf16": 2}
_LOSS_BYTES = 4
_TOKEN_BYTES = 4
_PROBE_TOKEN_BYTES = 16
"""Of a probe's stored rows: the token and the number of its document."""


@dataclass(frozen=True, slots=True)
class CaptureSize:
    """Bytes of tensors; each file has a header of some kilobytes besides."""

    parts: Mapping[str, int]
    """Of one capture, by the key that asks for them."""
    at_start: int
    """Of a capture at step 0, which has no training batch, no moments and no last update."""
    probes: int
    """Of the probes' rows, stored once."""

    @property
    def later(self) -> int:
        """Of a capture at any other step."""
        return sum(self.parts.values())

    def total(self, steps: Iterable[int]) -> int:
        """Of captures at these steps, and the probes."""
        return self.probes + sum(self.later if step else self.at_start for step in steps)


def capture_size(config: schema.Config) -> CaptureSize:
    """Compute what captures take; exactly, where each probe finds the text for its rows, else at most.

    Args:
        config: resolved: the vocabulary's size is known.

    Raises:
        PicoLMError: a pattern of the capture names nothing.
    """
    capture = config.capture
    with torch.device("meta"):
        model = Transformer(config.model)
    groups = parameter_groups(model, nn.Module(), config.optimizer)
    # What interventions add is not here: a pattern for it is checked when the model is built.
    stored = select_stored(capture, model, groups, strict=not config.interventions)
    item, length = _ITEM_BYTES[capture.dtype], config.data.sequence_length
    per_row = item * _numbers_per_row(model, stored, config)
    per_row_losses = _LOSS_BYTES * length * capture.token_losses
    gradients = item * _numbers(stored.gradients)
    probe_rows = sum(probe.sequences for probe in capture.probes.values())
    train_rows = config.training.batch_size * capture.train_batch
    rows, n_batches = probe_rows + train_rows, len(capture.probes) + capture.train_batch
    parts = {
        "activations": rows * per_row,
        "gradients": n_batches * gradients,
        "moments": item * _moment_numbers(stored, groups),
        "updates": item * _numbers(stored.updates),
        "token_losses": rows * per_row_losses,
        # Inputs and targets of the training batch; those of probes are stored once.
        "train_batch": train_rows * 2 * length * _TOKEN_BYTES,
    }
    at_start = probe_rows * (per_row + per_row_losses) + len(capture.probes) * gradients
    return CaptureSize(parts, at_start, probes=probe_rows * (length + 1) * _PROBE_TOKEN_BYTES)


def check_room(config: schema.Config, directory: Path, *, after: int = -1) -> None:
    """Refuse captures that are above the budget, or above what is free on the disk.

    Args:
        config: resolved.
        directory: where the run stands or will stand.
        after: captures up to this step are there already.

    Raises:
        PicoLMError: they are; the sentence says what would bring them under.
    """
    capture = config.capture
    if not capture.is_wanted:
        return
    size, steps = capture_size(config), capture.up_to(config.training.steps)
    budget, total = capture.budget_gb * 1e9, size.total(steps)
    if total > budget:
        raise PicoLMError(
            f"{len(steps)} captures would take {_readable(total)} on disk, more than "
            f"capture.budget_gb={capture.budget_gb:g}; {_advice(config, size, budget / total)}, or raise the budget"
        )
    free = shutil.disk_usage(_existing(directory)).free
    needed = size.total(step for step in steps if step > after)
    if needed > free:
        raise PicoLMError(
            f"the captures of this run would take {_readable(needed)} on disk, but {directory} has "
            f"{_readable(free)} left; {_advice(config, size, free / needed)}, or choose another disk"
        )


def _numbers_per_row(model: LanguageModel, stored: Selection, config: schema.Config) -> int:
    """Numbers that the activations of one row hold: the model is run, but without any data."""
    positions, total = config.capture.positions, 0

    def count(name: str, tensor: Tensor, dimension: int) -> None:
        nonlocal total
        shape = list(tensor.shape)
        if positions != "all":
            shape[dimension] = len(positions)
        total += math.prod(shape)

    row = torch.zeros(1, config.data.sequence_length, dtype=torch.long, device="meta")
    with recorded(model, stored.sites, count), torch.no_grad():
        model(row)
    return total


def _moment_numbers(stored: Selection, groups: Iterable[Mapping[str, Any]]) -> int:
    # Muon keeps one number for each element of a matrix, AdamW two.
    return sum(
        parameter.numel() * (1 if group.get("muon") else 2)
        for group in groups
        for name, parameter in parameters_of([group]).items()
        if name in stored.moments
    )


def _numbers(parameters: Mapping[str, Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters.values())


def _advice(config: schema.Config, size: CaptureSize, factor: float) -> str:
    """What would bring the size under, for the part that takes most."""
    largest = max(size.parts, key=lambda part: size.parts[part])
    share = f"of the {_readable(size.later)} of each, capture.{largest} takes {_readable(size.parts[largest])}"
    capture = config.capture
    if largest in ("activations", "token_losses", "train_batch") and capture.probes:
        name, probe = max(capture.probes.items(), key=lambda item: item[1].sequences)
        fewer = max(1, math.floor(probe.sequences * factor * 0.95))
        change = f"lower capture.probes.{name}.sequences from {probe.sequences} to {fewer}"
        if capture.positions == "all" and largest == "activations":
            change += ", or set capture.positions=[-1]"
    else:
        change = f"name fewer matrices in capture.{largest}"
    narrow = "" if capture.dtype == "bf16" else ", or capture.dtype=bf16"
    return f"{share}: {change}{narrow}, or capture at fewer steps"


def _existing(directory: Path) -> Path:
    return next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())


def _readable(n_bytes: float) -> str:
    unit = next((unit for unit in ("TB", "GB", "MB", "kB") if n_bytes >= _SCALE[unit]), "kB")
    return f"{n_bytes / _SCALE[unit]:.1f} {unit}"


_SCALE = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}
