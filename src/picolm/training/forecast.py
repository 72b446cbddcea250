"""What a run will take, said before it starts: parameters, tokens, operations, memory, disk and time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from picolm.config import schema
from picolm.model.size import (
    ParameterCount,
    activation_bytes,
    backward_bytes,
    count_parameters,
    flops_per_token,
    loss_bytes,
)
from picolm.training.capture_size import capture_size
from picolm.training.muon import STACK_ELEMENTS

PRODUCT_FACTOR, TRAFFIC_FACTOR = 1.2, 25.0
"""What a step takes beside bare products, and how often each kept byte is moved (exponentials count as moves): fitted
on two CPU cores to six shapes and precisions of 0.9M to 5M parameters, which they meet within a factor of 2.2."""

_MEASURED_SECONDS = 0.1
_MOVED_FLOATS = 2**22
_REPORT_BYTES = 5_000_000
_LOG_LINE_BYTES = 300


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on the device, above what the process has without a model; `total` is their sum.

    Measured peaks of five shapes and precisions on a CPU were 0.91 to 1.10 of it (a test allows 0.8 to 1.25).
    """

    weights: int
    gradients: int
    optimizer: int
    """AdamW: two numbers per parameter; Muon: one for hidden matrices, and what an update holds at once."""
    average: int
    """The averaged weights, where there are any."""
    activations: int
    """Of one micro-batch, kept from forward to backward."""
    loss: int
    """Logits and their gradients, or the gradients within one block where these are more."""
    allocator: int
    """A fifth of all but the weights: what memory that comes and goes leaves unused between its pieces."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take."""

    parameters: ParameterCount
    tokens: int
    passes: float
    """How often the training split is gone through."""
    flops: int
    """Of training: forward and backward, matrix products only."""
    memory: Memory
    disk_bytes: int
    """Checkpoint, report, log; not the captures, nor the prepared data, which runs share."""
    capture_bytes: int
    """On disk, of all captures and their probes."""
    seconds: float
    """Of the training steps: a rough figure, from a short measurement of the device."""

    def plain(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        memory = {**asdict(self.memory), "total": self.memory.total}
        return {
            **asdict(self),
            "parameters": {"total": self.parameters.total, "not_embedding": self.parameters.not_embedding},
            "memory": memory,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device reaches."""

    device: str
    """Its type: `cpu`, `cuda` or `mps`."""
    flops_per_second: float
    """On matrix products [T, D] x [D, F] of the model's own width, in the run's precision."""
    bytes_per_second: float
    """Read and written by a sum with a constant."""


def forecast(config: schema.Config, *, train_tokens: int, rates: Rates) -> Forecast:
    """Compute what a run will take.

    Time is `PRODUCT_FACTOR` operations / flops_per_second + `TRAFFIC_FACTOR` bytes kept for backward /
    bytes_per_second. It may be off by a factor of two or three; the speed that a run shows after its first steps is
    exact.

    Args:
        config: resolved: the vocabulary's size is known.
        train_tokens: tokens of the training split.
        rates: of the device (`measured_rates`).
    """
    vocab_size = config.model.vocab_size
    assert vocab_size is not None
    count = count_parameters(config.model, vocab_size)
    tokens = config.training.steps * config.training.batch_size * config.data.sequence_length
    flops = tokens * flops_per_token(config.model, vocab_size, config.data.sequence_length)
    log_lines = config.training.steps // config.training.log_every
    memory = _memory(config, count, vocab_size, rates.device)
    captures = config.capture.up_to(config.training.steps)
    moved = (memory.activations + memory.loss) * (tokens / _micro_batch_tokens(config))
    return Forecast(
        parameters=count,
        tokens=tokens,
        passes=tokens / max(train_tokens, 1),
        flops=flops,
        memory=memory,
        disk_bytes=_checkpoint_bytes(config, count) + _REPORT_BYTES + log_lines * _LOG_LINE_BYTES,
        capture_bytes=capture_size(config).total(captures) if captures else 0,
        seconds=PRODUCT_FACTOR * flops / rates.flops_per_second + TRAFFIC_FACTOR * moved / rates.bytes_per_second,
    )


def kept_checkpoints(config: schema.Config, first: int = 0) -> tuple[int, int]:
    """How many models stay, and how many resume states that are not superseded, when a run ends.

    Args:
        config: the whole run.
        first: the step at which it begins: 0, or that of a fork, whose checkpoint is copied.
    """
    steps, wanted = config.training.steps, config.checkpoints
    models = {step for step in config.model_steps() if step >= first}
    states = {steps, *(step for step in wanted.state.up_to(steps) if step >= first), first} - {0}
    kept = states & {*wanted.state.at} | set(sorted(states - {*wanted.state.at})[-(wanted.keep_states or steps) :])
    # A state that no model stands beside keeps the model that it belongs to.
    return len(models | kept), len(kept)


def _checkpoint_bytes(config: schema.Config, count: ParameterCount) -> int:
    """Models and resume states; tokenizers are left out."""
    models, states = kept_checkpoints(config)
    average = 0 if config.training.ema is None else 4 * count.total
    return models * (4 * count.total + average) + states * (_moment_bytes(config, count) + average)


def _memory(config: schema.Config, count: ParameterCount, vocab_size: int, device: str) -> Memory:
    training, bf16 = config.training, config.training.precision == "bf16"
    n_tokens = _micro_batch_tokens(config)
    objective = config.objective
    n_targets = math.ceil(n_tokens * objective.rate) if isinstance(objective, schema.Masked) else n_tokens
    gradients, optimizer = 4 * count.total, _optimizer_bytes(config, count)
    activations = activation_bytes(config.model, n_tokens, bf16=bf16)
    loss = max(
        loss_bytes(n_targets, vocab_size, config.model.d_model, bf16=bf16, device=device),
        backward_bytes(config.model, n_tokens, bf16=bf16),
    )
    return Memory(
        weights=4 * count.total,
        gradients=gradients,
        optimizer=optimizer,
        average=0 if training.ema is None else 4 * count.total,
        activations=activations,
        loss=loss,
        allocator=(gradients + optimizer + activations + loss) // 5,
    )


def _micro_batch_tokens(config: schema.Config) -> int:
    batch_size = config.training.batch_size
    return min(config.training.micro_batch_size or batch_size, batch_size) * config.data.sequence_length


def _moment_bytes(config: schema.Config, count: ParameterCount) -> int:
    """What the optimizer keeps: two numbers per parameter; Muon one for each of a hidden matrix."""
    return 8 * count.total - (0 if config.optimizer.kind == "adamw" else 4 * count.hidden_matrices)


def _optimizer_bytes(config: schema.Config, count: ParameterCount) -> int:
    moments = _moment_bytes(config, count)
    if config.optimizer.kind == "adamw":
        return moments
    largest = config.model.d_model * max(config.model.d_ffn, config.model.d_model)
    stack = max(largest, min(STACK_ELEMENTS, count.hidden_matrices))
    # Weights, gradients, momentum, the iteration and their successors, all in float32.
    return moments + 12 * 4 * stack


def measured_rates(config: schema.Config, device: torch.device) -> Rates:
    """Measure the device, for a fifth of a second."""
    dtype = torch.bfloat16 if config.training.precision == "bf16" else torch.float32
    rows = max(config.data.sequence_length, 1024)
    left = torch.ones(rows, config.model.d_model, dtype=dtype, device=device)
    right = torch.ones(config.model.d_model, config.model.d_ffn, dtype=dtype, device=device)
    numbers = torch.ones(_MOVED_FLOATS, device=device)
    moved = torch.empty_like(numbers)
    products = _per_second(lambda: left @ right, device)
    sums = _per_second(lambda: torch.add(numbers, 1.0, out=moved), device)
    return Rates(device.type, products * 2 * left.numel() * config.model.d_ffn, sums * 8 * _MOVED_FLOATS)


def _per_second(work: Callable[[], object], device: torch.device) -> float:
    """How often something can be done in a second."""
    work()
    _wait(device)
    started, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < _MEASURED_SECONDS or not done:
        for _ in range(4):
            work()
        _wait(device)
        done += 4
    return done / elapsed


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
