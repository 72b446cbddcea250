"""Singular values: computed once, in float64, for all that is said of them.

Functions that take a spectrum take the matrix as well: `effective_rank(weight)` is `effective_rank(spectrum(weight))`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from picolm.errors import PicoLMError

# From this ratio of sides on, a QR decomposition first is quicker: what is left is a small square.
_ELONGATED = 1.5


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The singular values of a matrix, or of a stack of matrices."""

    values: Tensor
    """[..., k], float64, descending. NaN, all of them, where the matrix has an entry that is not finite."""
    shape: tuple[int, int]
    """Of the matrix, (m, n). Where k is less than both (a product), the other singular values are 0."""
    precision: float
    """The relative rounding error of the matrix's entries, which decides what counts as 0."""
    inner: int | None = None
    """Columns of the left factor, where the matrix is a product."""

    @property
    def max_rank(self) -> int:
        """The largest rank that a matrix of this form can have, k: min(m, n), of a product min(m, n, inner)."""
        return self.values.shape[-1]


Matrix = Tensor | Spectrum
"""A matrix [..., m, n], or its singular values where they are known."""


def spectrum(matrix: Matrix) -> Spectrum:
    """Singular values of a matrix.

    Args:
        matrix: [..., m, n]. A spectrum is handed back as it is.

    Raises:
        PicoLMError: it is no matrix, or an empty one.

    Source:
        LAPACK through `torch.linalg.svdvals`. O(m n min(m, n)).
    """
    if isinstance(matrix, Spectrum):
        return matrix
    m, n = sides(matrix)
    return Spectrum(_singular_values(matrix.double()), (m, n), _precision(matrix))


def product_spectrum(left: Tensor, right: Tensor) -> Spectrum:
    """Singular values of left @ right without the product, which may be far larger than its factors.

    With left = Q R and right^T = P S, left @ right = Q (R S^T) P^T has the singular values of R S^T, r x r.
    The OV circuit of a head is (W_O[:, h], W_V[h, :]), its QK circuit (W_Q[h, :]^T, W_K[h, :]). Not to be mistaken for
    W_V W_O, [r, r]: that has the same eigenvalues but other singular values.

    Args:
        left: [..., m, r].
        right: [..., r, n].

    Returns:
        min(m, n, r) values; any others are 0.

    Raises:
        PicoLMError: the factors do not fit, or one is empty.

    Source:
        Elhage et al. 2021 for the circuits. O((m + n) r^2).
    """
    (m, r), (rows, n) = sides(left), sides(right)
    if r != rows:
        raise PicoLMError(f"factors of a product must be [..., m, r] and [..., r, n], not [{m}, {r}] and [{rows}, {n}]")
    precision = max(_precision(left), _precision(right))
    left, right = left.double(), right.double()
    # A matrix that is wide already would only be turned round.
    core = (_triangle(left) if m > r else left) @ (_triangle(right.mT).mT if n > r else right)
    return Spectrum(_singular_values(core), (m, n), precision, inner=r)


def sides(matrix: Tensor) -> tuple[int, int]:
    """The numbers of rows and columns of a matrix [..., m, n].

    Raises:
        PicoLMError: it is no matrix, or an empty one.
    """
    if matrix.ndim < 2 or 0 in matrix.shape[-2:]:
        raise PicoLMError(f"a matrix [..., m, n] that is not empty is needed, not {list(matrix.shape)}")
    return matrix.shape[-2], matrix.shape[-1]


def _triangle(tall: Tensor) -> Tensor:
    triangle: Tensor = torch.linalg.qr(tall, mode="r").R
    return triangle


def _singular_values(matrix: Tensor) -> Tensor:
    finite = matrix.isfinite().all(-1).all(-1)
    if not finite.all():
        # One that is not finite would stop the decomposition of the whole stack.
        matrix = torch.where(finite[..., None, None], matrix, 0.0)
    tall = matrix if matrix.shape[-2] >= matrix.shape[-1] else matrix.mT
    if tall.shape[-2] >= _ELONGATED * tall.shape[-1]:
        tall = _triangle(tall)
    return torch.where(finite[..., None], torch.linalg.svdvals(tall), torch.nan)


def _precision(matrix: Tensor) -> float:
    # Weights that are kept in half precision are what they are, exactly: what is computed from them is not so coarse.
    dtype = matrix.dtype if matrix.is_floating_point() else torch.float64
    return min(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
