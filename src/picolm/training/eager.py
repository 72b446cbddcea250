"""The eager twin: the same parameters, uncompiled and in evaluation mode, looked at without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eager_twin(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Run what is inside uncompiled, without dropout and in the weights' own precision.

    Afterwards every submodule is in the mode in which it was, and the generators stand where they stood. Gradients are
    the caller's part: `torch.autograd.grad` touches no `.grad`, `backward` would.

    Args:
        module: what is run, as a rule an `Objective`.
        device: where it lives.
    """
    modes = [(part, part.training) for part in module.modules()]
    devices = [device] if device.type == "cuda" else []
    module.eval()
    try:
        with (
            torch.random.fork_rng(devices=devices),
            torch.compiler.set_stance("force_eager"),
            torch.autocast(device.type, enabled=False),
        ):
            yield
    finally:
        # One by one: a part may have been in another mode than the whole.
        for part, mode in modes:
            part.training = mode
