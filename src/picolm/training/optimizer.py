"""AdamW over named parameters, and the update that skips itself when a gradient is not finite."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from picolm.config import schema
from picolm.model.interface import LanguageModel


def parameter_groups(model: LanguageModel, heads: nn.Module, optimizer: schema.Optimizer) -> list[dict[str, Any]]:
    """Part the trainable parameters by whether they decay.

    Returns:
        Groups for a torch optimizer, each with `names` beside `params`; an assertion proves that they are a partition.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    roles = {name: model.role(name) for name in named}
    for name, parameter in heads.named_parameters(prefix="heads"):
        named[name], roles[name] = parameter, "matrix" if parameter.dim() > 1 else "norm"
    decayed = [name for name in named if optimizer.decay == "all" or roles[name] == "matrix"]
    kept = [name for name in named if name not in set(decayed)]
    decays = ((decayed, optimizer.weight_decay), (kept, 0.0))
    groups: list[dict[str, Any]] = [
        {"names": names, "params": [named[name] for name in names], "weight_decay": weight_decay}
        for names, weight_decay in decays
        if names
    ]
    grouped = [name for group in groups for name in group["names"]]
    assert sorted(grouped) == sorted(named) and len({id(p) for p in named.values()}) == len(named)
    return groups


def build_optimizer(model: LanguageModel, heads: nn.Module, optimizer: schema.Optimizer) -> torch.optim.AdamW:
    """Make the fused AdamW of a run."""
    return torch.optim.AdamW(
        parameter_groups(model, heads, optimizer),
        lr=optimizer.learning_rate,
        betas=optimizer.betas,
        eps=optimizer.eps,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.AdamW, learning_rate: float) -> None:
    """Give every group the step's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def apply_update(optimizer: torch.optim.AdamW, *, skip: Tensor) -> None:
    """Take one step, or none where `skip` is 1: then weights, moments and step counts stay as they are.

    `skip` is a scalar on the device. The decision is taken inside the fused kernel, so the host never waits for it.
    """
    # The fused kernel looks for these two attributes, as a gradient scaler would set them.
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.found_inf = skip  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def gradient_norm(parameters: list[Tensor], max_norm: float | None) -> Tensor:
    """Scale the gradient down to `max_norm`; return its Euclidean norm before that, a scalar on the device."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm
