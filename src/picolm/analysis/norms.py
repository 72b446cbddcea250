"""Norms of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.spectrum import Matrix, Spectrum, sides, spectrum


def frobenius_norm(matrix: Matrix) -> Tensor:
    """Frobenius norm: sqrt(sum_ij W_ij^2) = sqrt(sum_i s_i^2).

    Args:
        matrix: [..., m, n], which needs no SVD, or its spectrum.

    Returns:
        [...], float64, from 0 up; not finite where an entry is not.

    Raises:
        PicoLMError: it is no matrix, or an empty one.

    Source:
        `torch.linalg.matrix_norm`, "fro". O(m n).
    """
    if isinstance(matrix, Spectrum):
        norm: Tensor = torch.linalg.vector_norm(matrix.values, dim=-1)
    else:
        sides(matrix)
        norm = torch.linalg.vector_norm(matrix, dim=(-2, -1), dtype=torch.float64)
    return norm


def spectral_norm(matrix: Matrix) -> Tensor:
    """Spectral norm: s_1, by how much the matrix lengthens a vector at most.

    Args:
        matrix: [..., m, n], or its spectrum.

    Returns:
        [...], float64, from 0 up; NaN where an entry is not finite.

    Raises:
        PicoLMError: it is no matrix, or an empty one.

    Source:
        `torch.linalg.matrix_norm`, 2. One SVD.
    """
    return spectrum(matrix).values[..., 0]


def nuclear_norm(matrix: Matrix) -> Tensor:
    """Nuclear norm: sum_i s_i.

    Args:
        matrix: [..., m, n], or its spectrum.

    Returns:
        [...], float64, from 0 up; NaN where an entry is not finite.

    Raises:
        PicoLMError: it is no matrix, or an empty one.

    Source:
        `torch.linalg.matrix_norm`, "nuc". One SVD.
    """
    return spectrum(matrix).values.sum(-1)


def max_abs(matrix: Tensor) -> Tensor:
    """Largest absolute entry, max_ij |W_ij|.

    pico-analyze calls it the infinity norm; the matrix norm of that name is the largest sum of a row.

    Args:
        matrix: [..., m, n].

    Returns:
        [...], float64, from 0 up; not finite where an entry is not.

    Raises:
        PicoLMError: it is no matrix, or an empty one.

    Source:
        `torch.linalg.vector_norm`, inf. O(m n).
    """
    sides(matrix)
    return matrix.abs().amax((-2, -1)).double()


_ANY = (0.0, float("inf"))
FROBENIUS_NORM = Metric(
    "frobenius_norm", "spectrum", frobenius_norm, _ANY, "Square root of the sum of all squared entries."
)
SPECTRAL_NORM = Metric("spectral_norm", "spectrum", spectral_norm, _ANY, "Largest singular value.")
NUCLEAR_NORM = Metric("nuclear_norm", "spectrum", nuclear_norm, _ANY, "Sum of the singular values.")
MAX_ABS = Metric("max_abs", "matrix", max_abs, _ANY, "Largest absolute entry.")
