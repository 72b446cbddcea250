"""Curvature of the loss: products with its Hessian.

What they tell of its eigenvalues is in `eigenvalues`: the largest is the sharpness. These are functions of a whole
model and a batch, so no `Metric`s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from picolm.analysis.eigenvalues import Operator
from picolm.errors import PicoLMError
from picolm.objective.twin import plain_twin


def hessian(loss: Callable[[], Tensor], parameters: Mapping[str, Tensor]) -> Operator:
    """The Hessian of a loss with respect to some parameters.

    The graph of the gradient is made once and kept as long as the operator is, so a product costs one backward through
    it, about two of the loss. Math attention, plain losses, nothing compiled, no autocast: what is fused cannot be
    differentiated twice. Nothing is left behind: gradients, modes and random states are as before.

    Args:
        loss: gives the loss, a scalar, of the same batch each time, with dropout off (`model.eval()`).
        parameters: by name, in the order of the flat vectors; one that the loss does not depend on has zeros. They must
            not change while products are asked for.

    Returns:
        Its products. The Hessian of a batch that is too large for one graph is the sum of its parts'.

    Raises:
        PicoLMError: the loss is not one finite number, differs between two calls, or depends on none of the parameters;
            or parameters are frozen, or of a precision below float32 or of several.

    Source:
        Pearlmutter 1994 (Neural Computation 6:1).
    """
    _check(parameters)
    tensors = list(parameters.values())
    with _differentiable(tensors[0].device):
        value = _same_twice(loss)
        gradients = torch.autograd.grad(value, tensors, create_graph=True, allow_unused=True)
        if all(gradient is None for gradient in gradients):
            raise PicoLMError(f"the loss depends on none of the parameters {', '.join(parameters)}")
        gradient = _flat(gradients, tensors)

    def product(vector: Tensor) -> Tensor:
        if not gradient.requires_grad:
            # Of a loss that is linear in the parameters.
            return torch.zeros_like(vector)
        with _differentiable(vector.device):
            parts = torch.autograd.grad(gradient, tensors, vector, retain_graph=True, allow_unused=True)
        return _flat(parts, tensors)

    return Operator(product, gradient.detach())


def _check(parameters: Mapping[str, Tensor]) -> None:
    if not parameters:
        raise PicoLMError("a Hessian needs parameters")
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    if frozen:
        raise PicoLMError(f"these parameters are frozen, so the loss has no Hessian in them: {', '.join(frozen)}")
    precisions = {parameter.dtype for parameter in parameters.values()}
    if not precisions <= {torch.float32, torch.float64} or len(precisions) > 1:
        found = ", ".join(sorted(str(precision).removeprefix("torch.") for precision in precisions))
        raise PicoLMError(f"a Hessian needs all its parameters in float32 or all in float64, not in {found}")


@contextmanager
def _differentiable(device: torch.device) -> Iterator[None]:
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        plain_twin(),
    ):
        yield


def _same_twice(loss: Callable[[], Tensor]) -> Tensor:
    value, again = loss(), loss()
    if value.numel() != 1 or not value.isfinite().all():
        shown = value.tolist() if value.numel() < 5 else f"a tensor of {list(value.shape)}"
        raise PicoLMError(f"the loss must be one finite number, not {shown}")
    if not value.requires_grad:
        raise PicoLMError("the loss depends on no parameter: it must be computed with gradients on")
    # Beyond what sums in another order make on a GPU.
    first, second = float(value.detach()), float(again.detach())
    if abs(first - second) > 1e-5 * max(1.0, abs(first)):
        raise PicoLMError("the loss differs between two calls: switch dropout off (model.eval()) and fix the batch")
    return value


def _flat(parts: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    return torch.cat(
        [
            torch.zeros_like(tensor).reshape(-1) if part is None else part.reshape(-1)
            for part, tensor in zip(parts, like, strict=True)
        ]
    )
