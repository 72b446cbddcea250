"""Muon: momentum whose matrices are made orthogonal before they are added; all else by AdamW.

PyTorch has a `torch.optim.Muon` of the same formula (a test compares them). It cannot leave out a step without asking
the host, takes one small matrix at a time, and computes in bfloat16 also where that is slow; hence this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, Literal, overload

import torch
from torch import Tensor

Scale = Literal["spectral", "rms_match"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
STACK_ELEMENTS = 2**20
"""Small matrices are taken together up to this size; more would only cost memory."""


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Bring all singular values of each matrix near 1 and keep its singular vectors.

    Newton-Schulz iteration with a quintic (Jordan et al. 2024, kellerjordan.github.io/posts/muon): after division by
    the Frobenius norm, five times X <- a X + (b A + c A^2) X with A = X X^T. The coefficients make the slope at zero
    steep, so singular values end between 0.68 and 1.14 and not exactly at 1; those of nearly 0 stay below.

    Args:
        matrices: [K, M, N].
        dtype: precision of the iteration. On a CPU with bfloat16 products float32 takes 3 to 4 times as long; the
            result in bfloat16 is 1% away from it, far less than the iteration itself is from an exact one.

    Returns:
        [K, M, N] in `dtype`.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    # The Gram matrix of the shorter side is the smaller one.
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        # Sums inside the products: half as many roundings, which is what counts in bfloat16.
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


def scale_of(scale: Scale, rows: int, columns: int) -> float:
    """What the orthogonal matrix is multiplied by, beside the learning rate.

    `spectral`: sqrt(max(1, rows / columns)), so that outputs change alike whatever the shape (Jordan et al. 2024;
    Bernstein 2025). `rms_match`: 0.2 sqrt(max(rows, columns)), so that elements change as under AdamW, whose learning
    rate then fits (Liu et al. 2025, Moonlight, equation 4).
    """
    return math.sqrt(max(1.0, rows / columns)) if scale == "spectral" else 0.2 * math.sqrt(max(rows, columns))


class Muon(torch.optim.AdamW):
    """Muon for the groups that say `"muon": True`, fused AdamW for the others.

    For a matrix W with gradient G, momentum mu and learning rate eta (Jordan et al. 2024):

        B <- mu B + (1 - mu) G
        W <- (1 - eta weight_decay) W - eta scale orthogonalize((1 - mu) G + mu B    if nesterov else    B)

    `found_inf`, a scalar on the device, works as in PyTorch's fused optimizers: where it is 1, weights and state stay
    as they are, and the host does not wait to learn so.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        momentum: float,
        nesterov: bool,
        scale: Scale,
        dtype: torch.dtype | None,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        """Make the optimizer.

        Args:
            groups: each with `params`, `lr`, `weight_decay` and `muon`.
            momentum: mu.
            nesterov: whether the momentum looks one step ahead.
            scale: see `scale_of`.
            dtype: precision of `orthogonalize`; None: that of the matrix.
            betas: of AdamW.
            eps: of AdamW.
        """
        super().__init__(groups, betas=betas, eps=eps, fused=True)
        self.momentum, self.nesterov, self.scale, self.dtype = momentum, nesterov, scale, dtype
        self.grad_scale: Tensor | None = None
        self.found_inf: Tensor | None = None

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one update from the gradients; those of the matrices are used up."""
        assert closure is None, "the loop computes gradients before it asks for a step"
        for group in self.param_groups:
            if group["muon"]:
                self._step_matrices(group)
        # AdamW passes over parameters without a gradient, which those of Muon now are.
        super().step()
        return None

    @torch.no_grad()
    def _step_matrices(self, group: dict[str, Any]) -> None:
        present: list[Tensor] = [p for p in group["params"] if p.grad is not None]
        # Matrices of one shape go through the iteration together: one large product instead of many small ones.
        for shape, same in groupby(sorted(present, key=_shape), key=_shape):
            matrices = list(same)
            together = max(1, STACK_ELEMENTS // math.prod(shape))
            for first in range(0, len(matrices), together):
                self._step_stack(matrices[first : first + together], shape, group["lr"], group["weight_decay"])

    def _step_stack(self, parameters: list[Tensor], shape: tuple[int, int], rate: float, decay: float) -> None:
        buffers = [self._buffer(parameter) for parameter in parameters]
        gradients = torch.stack([p.grad for p in parameters if p.grad is not None])
        old = torch.stack(buffers)
        new = old.lerp(gradients, 1.0 - self.momentum)
        direction = gradients.lerp(new, self.momentum) if self.nesterov else new
        orthogonal = orthogonalize(direction, self.dtype or direction.dtype).to(direction.dtype)
        weights = torch.stack(parameters)
        moved = weights * (1.0 - rate * decay) - rate * scale_of(self.scale, *shape) * orthogonal
        if self.found_inf is not None:
            # Not a product with 0 or 1: what is not finite would stay so.
            skip = self.found_inf.bool()
            new, moved = torch.where(skip, old, new), torch.where(skip, weights, moved)
        for parameter, buffer, weight, momentum in zip(parameters, buffers, moved, new, strict=True):
            parameter.copy_(weight)
            buffer.copy_(momentum)
            parameter.grad = None

    def _buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def _shape(parameter: Tensor) -> tuple[int, int]:
    rows, columns = parameter.shape
    return rows, columns
