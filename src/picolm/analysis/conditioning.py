"""Condition numbers: how much longer a matrix makes one direction than another."""

from __future__ import annotations

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.rank import threshold
from picolm.analysis.spectrum import Matrix, spectrum


def condition_number(matrix: Matrix, *, tolerance: float | None = None) -> Tensor:
    """Condition number within the numerical rank: s_1 / s_r, r singular values being above rounding error.

    Compare on a logarithmic scale. That of a square random matrix is heavy-tailed (of two draws one may have ten times
    the other's), that of an elongated one is not: (1 + sqrt(gamma)) / (1 - sqrt(gamma)), gamma the ratio of its sides.

    Args:
        matrix: [..., m, n], or its spectrum.
        tolerance: as for `numerical_rank`; it also bounds the value, by 1 / tolerance.

    Returns:
        [...], float64, from 1 up; NaN for a zero matrix and one that is not finite.

    Source:
        Golub & Van Loan, Matrix Computations, 2.6 and 5.4. One SVD.
    """
    known = spectrum(matrix)
    above = known.values > threshold(known, tolerance)
    smallest = torch.where(above, known.values, torch.inf).amin(-1)
    # Where none is above (zero matrix, NaN) the smallest is infinite.
    return torch.where(above.any(-1), known.values[..., 0] / smallest, torch.nan)


def full_condition_number(matrix: Matrix) -> Tensor:
    """Condition number over all min(m, n) singular values: s_1 / s_min.

    Of a matrix of lower rank it is infinite, or, once rounding has filled the spectrum, noise of any size: on updates
    and products of low rank (OV) it says nothing. It is what pico-analyze reports.

    Args:
        matrix: [..., m, n], or its spectrum.

    Returns:
        [...], float64, from 1 up to infinity; NaN for a zero matrix and one that is not finite.

    Source:
        `torch.linalg.cond`. One SVD.
    """
    known = spectrum(matrix)
    has_zeros = known.max_rank < min(known.shape)
    smallest = torch.zeros_like(known.values[..., 0]) if has_zeros else known.values[..., -1]
    return known.values[..., 0] / smallest


CONDITION_NUMBER = Metric(
    "condition_number",
    "spectrum",
    condition_number,
    (1.0, float("inf")),
    "Largest singular value over the smallest above rounding error.",
)
FULL_CONDITION_NUMBER = Metric(
    "full_condition_number",
    "spectrum",
    full_condition_number,
    (1.0, float("inf")),
    "Largest singular value over the smallest of all, which may be 0.",
)
