"""Projection-weighted CCA as google/svcca and pico-analyze compute it, to compare with their numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from picolm.analysis.rows import precise_pair
from picolm.errors import PicoLMError


def compat_pwcca(x: Tensor, y: Tensor) -> Tensor:
    """PWCCA whose weights come from directions that were not whitened.

    With S_x^(-1/2) S_xy S_y^(-1/2) = U diag(rho) V^T, the directions are (X - mean) U + mean instead of
    (X - mean) S_x^(-1/2) U, column i taking the mean of neuron i; they are orthonormalised by QR and projected on the
    activations as they are. So the value depends on shifts of neurons, unlike `pwcca`. The released code takes X only
    where it is not the wider side and fails otherwise; a wider X is refused here.

    Args:
        x: [..., n, d], n > d'.
        y: [..., n, d'], the same rows, d' >= d.

    Returns:
        [...], float64, from 0 to 1.

    Raises:
        PicoLMError: the rows do not fit, X is wider than Y, or there are no more rows than columns.

    Source:
        `compute_pwcca` of google/svcca with epsilon 0, from its formulas. O(n d^2).
    """
    x, y = precise_pair(x, y, least=2)
    n, d, e = *x.shape[-2:], y.shape[-1]
    if d > e or n <= e:
        raise PicoLMError(f"the published PWCCA needs n > d' >= d, not n = {n}, d' = {e}, d = {d}: take pwcca")
    mean = x.mean(-2, keepdim=True)
    centred_x, centred_y = x - mean, y - y.mean(-2, keepdim=True)
    between = _inverse_root(centred_x) @ centred_x.mT @ centred_y @ _inverse_root(centred_y)
    left, correlations, _ = torch.linalg.svd(between, full_matrices=False)
    directions = torch.linalg.qr(centred_x @ left + mean).Q
    weights = (directions.mT @ x).abs().sum(-1)
    value: Tensor = (weights * correlations).sum(-1) / weights.sum(-1)
    return value


def _inverse_root(rows: Tensor) -> Tensor:
    """(X^T X)^(-1/2); what is 0 to rounding has no inverse."""
    values, vectors = torch.linalg.eigh(rows.mT @ rows)
    above = values > rows.shape[-1] * torch.finfo(torch.float64).eps * values[..., -1:]
    roots = torch.where(above, values.rsqrt(), 0.0)
    inverse: Tensor = (vectors * roots[..., None, :]) @ vectors.mT
    return inverse
