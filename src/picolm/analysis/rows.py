"""Activations as rows [..., n, d]: what every comparison of them asks of its input."""

from __future__ import annotations

import torch
from torch import Tensor

from picolm.errors import PicoLMError


def precise_rows(activations: Tensor, *, least: int) -> Tensor:
    """Activations in float64.

    Args:
        activations: [..., n, d].
        least: of rows.

    Raises:
        PicoLMError: there are fewer, or no columns.
    """
    if activations.ndim < 2 or activations.shape[-2] < least or activations.shape[-1] < 1:
        raise PicoLMError(
            f"activations must be [..., n, d] of {least} row{'s' * (least > 1)} or more, not {list(activations.shape)}"
        )
    return activations.double()


def precise_pair(x: Tensor, y: Tensor, *, least: int) -> tuple[Tensor, Tensor]:
    """Activations of the same rows at two places, in float64.

    Args:
        x: [..., n, d].
        y: [..., n, d']; leading dimensions broadcast.
        least: of rows.

    Raises:
        PicoLMError: the rows are not as many, or fewer than `least`, or leading dimensions do not fit.
    """
    x, y = precise_rows(x, least=least), precise_rows(y, least=least)
    leading = zip(reversed(x.shape[:-2]), reversed(y.shape[:-2]), strict=False)
    if x.shape[-2] != y.shape[-2] or any(one != other and 1 not in (one, other) for one, other in leading):
        raise PicoLMError(
            f"activations that are compared must be of the same rows, [..., n, d] and [..., n, d'], "
            f"not {list(x.shape)} and {list(y.shape)}"
        )
    return x, y


def centred(rows: Tensor) -> Tensor:
    """Rows less their mean; where all are equal exactly 0, not what rounding leaves.

    Args:
        rows: [..., n, d], float64.
    """
    without_mean = rows - rows.mean(-2, keepdim=True)
    rounding = 1e-14 * rows.abs().amax((-2, -1), keepdim=True)
    return torch.where(without_mean.abs() <= rounding, 0.0, without_mean)
