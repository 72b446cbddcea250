"""The exponent of a power law in the tail of a spectrum."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.rank import threshold
from picolm.analysis.spectrum import Matrix, spectrum

LARGEST_DISTANCE, LEAST_TAIL = 0.1, 50
"""A fit that is further from its data, or has fewer of them, is none."""


class PowerLaw(NamedTuple):
    """A fit; each [...], float64."""

    alpha: Tensor
    """The exponent: density ~ lambda^-alpha from `minimum` on."""
    standard_error: Tensor
    """(alpha - 1) / sqrt(m), for the tail as it was chosen."""
    ks_distance: Tensor
    """D, the largest difference between the distribution of the tail and the fitted one."""
    tail: Tensor
    """m, the number of eigenvalues in the tail."""
    minimum: Tensor
    """Where the tail begins."""


def fit_power_law(matrix: Matrix) -> PowerLaw:
    """Fit a power law to the eigenvalues lambda_i = s_i^2 of W^T W by maximum likelihood.

        alpha = 1 + m / sum_{lambda_i >= lambda_min} ln(lambda_i / lambda_min),

    lambda_min being the eigenvalue for which D is least. Any spectrum gets an exponent: what it is worth say D and m.

    Args:
        matrix: [..., m, n], or its spectrum; singular values that are 0 to rounding (`numerical_rank`) are left out.

    Returns:
        The fit; NaN where fewer than two different eigenvalues are left, or the matrix is not finite.

    Source:
        Clauset, Shalizi & Newman 2009 (arXiv 0706.1062); for weights: Martin & Mahoney 2021 (JMLR 22), weightwatcher.
        One SVD, then O(k^2).
    """
    known = spectrum(matrix)
    values = torch.where(known.values > threshold(known, None), known.values, 0.0)
    leading, k = values.shape[:-1], values.shape[-1]
    # Tails differ in length from matrix to matrix, so they are fitted one by one.
    fits = [_fit(row[row > 0]) for row in values.reshape(-1, k).cpu().numpy()]
    columns = torch.tensor(fits, dtype=torch.float64, device=values.device).reshape(*leading, 5).unbind(-1)
    return PowerLaw(*columns)


def power_law(matrix: Matrix) -> dict[str, Tensor]:
    """The exponent of a spectrum where there is one, with the numbers that say so.

    Args:
        matrix: [..., m, n], or its spectrum. Below 200 singular values, tails are short and exponents noise.

    Returns:
        `alpha`, NaN where D > 0.1 or m < 50; `ks_distance` D; `tail` m; each [...], float64.

    Source:
        As `fit_power_law`.
    """
    fit = fit_power_law(matrix)
    rejected = (fit.ks_distance > LARGEST_DISTANCE) | (fit.tail < LEAST_TAIL)
    alpha = torch.where(rejected, torch.nan, fit.alpha)
    return {"alpha": alpha, "ks_distance": fit.ks_distance, "tail": fit.tail}


def _fit(singular_values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """(alpha, standard error, D, m, lambda_min) from singular values above 0, NaN where there is no fit."""
    logarithms = np.sort(2 * np.log(singular_values))
    best = (np.nan,) * 5
    # From the first of equal eigenvalues: a tail that begins in their midst is none.
    for start in np.unique(logarithms, return_index=True)[1]:
        above = logarithms[start:] - logarithms[start]
        m, total = len(above), above.sum()
        if total > 0:
            alpha = 1 + m / total
            fitted = -np.expm1((1 - alpha) * above)
            distance = np.abs(fitted - np.arange(m) / m).max()
            if not distance >= best[2]:
                best = (alpha, (alpha - 1) / m**0.5, distance, m, np.exp(logarithms[start]))
    return best


POWER_LAW = Metric(
    "power_law",
    "spectrum",
    power_law,
    (0.0, float("inf")),
    "Exponent of the tail of the eigenvalues of W^T W, with its Kolmogorov-Smirnov distance and length.",
)
