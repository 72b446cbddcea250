"""The optimizer over named parameters, and the update that skips itself when a gradient is not finite."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from picolm.config import schema
from picolm.model.interface import LanguageModel
from picolm.seams import Group, Rate
from picolm.training.muon import Muon


def parameter_groups(model: LanguageModel, heads: nn.Module, optimizer: schema.Optimizer) -> list[Group]:
    """Part the trainable parameters by the rule that moves them and by whether they decay.

    Muon takes the matrices inside the model; the embedding, the output matrix, norms and heads are AdamW's.

    Returns:
        Groups for a torch optimizer, each with `names` beside `params`, its `peak` learning rate, and `muon`; an
        assertion proves that they are a partition.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    # A vector has no role but that of a norm's, whatever module an intervention put it in.
    roles = {name: model.role(name) if p.dim() > 1 else "norm" for name, p in named.items()}
    hidden = {
        name for name, p in named.items() if roles[name] == "matrix" and p.dim() == 2 and p is not model.output_matrix
    }
    for name, parameter in heads.named_parameters(prefix="heads"):
        if parameter.requires_grad:
            named[name], roles[name] = parameter, "matrix" if parameter.dim() > 1 else "norm"
    adamw = optimizer.adamw if optimizer.kind == "muon" else optimizer
    orthogonal = [name for name in named if optimizer.kind == "muon" and name in hidden]
    rest = [name for name in named if name not in set(orthogonal)]
    decayed = [name for name in rest if adamw.decay == "all" or roles[name] == "matrix"]
    kept = [name for name in rest if name not in set(decayed)]
    parts = (
        (orthogonal, optimizer.weight_decay, optimizer.learning_rate, True),
        (decayed, adamw.weight_decay, adamw.learning_rate, False),
        (kept, 0.0, adamw.learning_rate, False),
    )
    groups: list[Group] = [
        {
            "names": names,
            "params": [named[name] for name in names],
            "weight_decay": weight_decay,
            "lr": peak,
            "peak": peak,
            "muon": muon,
        }
        for names, weight_decay, peak, muon in parts
        if names
    ]
    grouped = [name for group in groups for name in group["names"]]
    assert sorted(grouped) == sorted(named) and len({id(p) for p in named.values()}) == len(named)
    return groups


def build_optimizer(groups: list[Group], optimizer: schema.Optimizer, *, precision: str = "fp32") -> torch.optim.AdamW:
    """Make the optimizer of a run: fused AdamW, or Muon with fused AdamW for what is no hidden matrix.

    Args:
        groups: what is trained, from `parameter_groups`, where it will train.
        optimizer: the settings.
        precision: `training.precision`. Muon's iteration runs in bfloat16 on a GPU always, elsewhere if the run does.
    """
    if optimizer.kind == "adamw":
        return torch.optim.AdamW(groups, betas=optimizer.betas, eps=optimizer.eps, fused=True)
    reduced = precision == "bf16" or groups[0]["params"][0].device.type == "cuda"
    return Muon(
        groups,
        momentum=optimizer.momentum,
        nesterov=optimizer.nesterov,
        scale=optimizer.scale,
        dtype=torch.bfloat16 if reduced else None,
        betas=optimizer.adamw.betas,
        eps=optimizer.adamw.eps,
    )


def set_learning_rate(optimizer: torch.optim.AdamW, step: int, rate: Rate) -> float:
    """Give every group the learning rate of update `step`; that of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = rate(step, group)
    return float(optimizer.param_groups[0]["lr"])


def apply_update(optimizer: torch.optim.AdamW, *, skip: Tensor) -> None:
    """Take one step, or none where `skip` is 1: then weights, moments and step counts stay as they are.

    `skip` is a scalar on the device. The decision is taken there, so the host never waits for it.
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
