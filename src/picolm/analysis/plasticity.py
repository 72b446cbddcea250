"""Plasticity: whether units still fire, and how far updates still move the weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.rows import precise_rows
from picolm.errors import PicoLMError


def dormancy(activations: Tensor) -> Tensor:
    """How active each unit is among its layer: s_i = mean |h_i| / mean over units k of mean |h_k|.

    Meant for what a feed-forward layer multiplies into its output matrix, after the nonlinearity: with SwiGLU the gated
    product silu(gate(x)) * up(x), which is the input of `down_proj`. On the residual stream it says little.

    Args:
        activations: [..., n, d], n rows, d units.

    Returns:
        [..., d], float64, from 0 up, mean 1; all 0 where the whole layer is silent, NaN where a value is not finite.

    Raises:
        PicoLMError: the activations have no rows or no units.

    Source:
        Sokar et al. 2023 (arXiv 2302.12902). O(n d).
    """
    size = precise_rows(activations, least=1).abs().mean(-2)
    whole = size.mean(-1, keepdim=True)
    return torch.where(whole == 0, 0.0, size / whole)


def dormant_units(activations: Tensor, *, threshold: float = 0.025) -> dict[str, Tensor]:
    """Shares of units that are dormant (`dormancy` at most the threshold) and dead (0 on every row).

    Args:
        activations: [..., n, d], see `dormancy`.
        threshold: 0.025 or 0.1 in the literature.

    Returns:
        `dormant` and `dead` [...], float64, from 0 to 1, dead <= dormant; NaN where a value is not finite.

    Raises:
        PicoLMError: as `dormancy`.

    Source:
        Sokar et al. 2023 (arXiv 2302.12902). O(n d).
    """
    scores = dormancy(activations)
    unknown = scores.isnan().any(-1)
    shares = {"dormant": scores <= threshold, "dead": scores == 0}
    return {name: torch.where(unknown, torch.nan, units.double().mean(-1)) for name, units in shares.items()}


def relative_change(matrix: Tensor, other: Tensor) -> Tensor:
    """How far a matrix has moved from another one, in units of that: |W - W'|_F / |W'|_F.

    Between a step and the one before it this is the effective learning rate, update norm over weight norm: scale of the
    weights, learning rate and optimizer in one number. Over h steps it is no h times that: updates turn back.

    Args:
        matrix: [..., m, n].
        other: [..., m, n], the former one.

    Returns:
        [...], float64, from 0 up; 0 where both are zero, infinite where only the other is.

    Raises:
        PicoLMError: their shapes differ.

    Source:
        van Laarhoven 2017 (arXiv 1706.05350). O(m n).
    """
    first, second = _pair(matrix, other)
    moved = _norm(first - second)
    return torch.where(moved == 0, moved, moved / _norm(second))


def update_cosine(update: Tensor, other: Tensor) -> Tensor:
    """Cosine between two updates of a matrix, or two gradients of it, as vectors of all their entries.

    Of successive updates: near 1 they go on in one direction, near 0 they walk at random, below 0 they turn back. Of
    weights themselves it is the angle by which they have turned.

    Args:
        update: [..., m, n].
        other: [..., m, n], for example the update before.

    Returns:
        [...], float64, from -1 to 1; NaN where one of them is zero, which has no direction.

    Raises:
        PicoLMError: their shapes differ.

    Source:
        Textbook formula. O(m n).
    """
    first, second = _pair(update, other)
    return (_unit(first) * _unit(second)).sum((-2, -1)).clamp(-1.0, 1.0)


def module_norms(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    """Norm of the gradient (or the update, or the weights) of each module: sqrt of the sum of all squares in it.

    Squared, those of a module's parts add up to its own; the root `""` is the norm that clipping looks at. It takes a
    whole model's, so it is no `Metric`.

    Args:
        gradients: by the name of the parameter, `layers.3.mlp.up_proj.weight`.

    Returns:
        By the name of the module, `layers.3.mlp.up_proj`, `layers.3.mlp`, `layers.3`, `layers`, `""`; float64.

    Source:
        Textbook formula. O(parameters).
    """
    squares: dict[str, float] = defaultdict(float)
    for name, gradient in gradients.items():
        square = float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2
        while name:
            name = name.rpartition(".")[0]
            squares[name] += square
    return {name: square**0.5 for name, square in squares.items()}


def _norm(matrix: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(matrix, dim=(-2, -1))
    return norm


def _unit(matrix: Tensor) -> Tensor:
    # Scaled first, so that no square of a tiny number vanishes. Zero becomes 0 / 0, NaN.
    scaled = matrix / matrix.abs().amax((-2, -1), keepdim=True)
    return scaled / _norm(scaled)[..., None, None]


def _pair(matrix: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    if matrix.shape != other.shape or matrix.ndim < 2:
        raise PicoLMError(
            f"two matrices [..., m, n] of one shape are needed, not {list(matrix.shape)} and {list(other.shape)}"
        )
    return matrix.double(), other.double()


DORMANT_UNITS = Metric(
    "dormant_units",
    "activations",
    dormant_units,
    (0.0, 1.0),
    "Shares of units that hardly fire beside the others of their layer, and that never do.",
)
RELATIVE_CHANGE = Metric(
    "relative_change",
    "matrix_pair",
    relative_change,
    (0.0, float("inf")),
    "Norm of the change between two steps over the norm at the compared one: the effective learning rate.",
)
UPDATE_COSINE = Metric(
    "update_cosine",
    "matrix_pair",
    update_cosine,
    (-1.0, 1.0),
    "Cosine between two updates (or gradients) of one matrix.",
)
