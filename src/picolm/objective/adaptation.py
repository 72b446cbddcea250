"""Learning within a task: gradient steps on functional parameters, which leave the live ones as they are.

L_S is the loss on the support, alpha a rate, T the number of steps: p_{t+1} = p_t - alpha grad L_S(p_t).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value

Parameters = dict[str, Tensor]
Loss = Callable[[Mapping[str, Tensor]], tuple[Tensor, Any]]
"""Parameters -> (the loss, a scalar; tensors that are to be known besides)."""


def adapt(
    loss: Loss, start: Mapping[str, Tensor], *, rates: Mapping[str, float], steps: int, exact: bool
) -> tuple[Parameters, list[tuple[Tensor, Any]]]:
    """Take gradient steps.

    It may run under `torch.vmap` and within another gradient. Exact, the result is differentiable through the
    gradients of the steps, so that a loss L_Q of it has the gradient prod_t (I - alpha H_t) grad L_Q(p_T) (Finn et al.
    2017); else each step's gradient is a constant, whatever it depends on, and that of L_Q is grad L_Q(p_T).

    Args:
        loss: of the support.
        start: p_0.
        rates: alpha of each parameter.
        steps: T.
        exact: whether the steps themselves are differentiated.

    Returns:
        p_T, and of each step what `loss` gave before it.
    """
    fast, seen = dict(start), []
    for _ in range(steps):
        at = fast if exact else {name: value.detach() for name, value in fast.items()}
        slopes, told = grad_and_value(loss, has_aux=True)(at)
        seen.append(told)
        fast = {
            name: value - rates[name] * (slopes[name] if exact else slopes[name].detach())
            for name, value in fast.items()
        }
    return fast, seen


def mean_slopes(
    start: Mapping[str, Tensor], end: Mapping[str, Tensor], *, rates: Mapping[str, float], steps: int
) -> Parameters:
    """The mean of the gradients that led from p_0 to p_T: (p_0 - p_T) / (alpha T) (Nichol et al. 2018, Reptile)."""
    return {name: ((value - end[name]) / (rates[name] * steps)).detach() for name, value in start.items()}


def with_slopes(value: Tensor, parameters: Mapping[str, Tensor], slopes: Mapping[str, Tensor]) -> Tensor:
    """A scalar with this value and these gradients, whatever it was computed from."""
    pairs = [(parameters[name] * slope.detach()).sum() for name, slope in slopes.items()]
    handle = torch.stack(pairs).sum()
    return value.detach() + handle - handle.detach()
