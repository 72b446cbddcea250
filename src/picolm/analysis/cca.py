"""Canonical correlations: how alike two sets of activations are up to any invertible linear map.

All scales of directions count alike, so directions that are only rounding error are left out: those whose singular
value is below `tolerance` times the largest. r and r' are the numbers of directions that are kept.

Correlations of unrelated activations are not small: their squares are max(r, r') / (n - 1) on average, and 1, all of
them, as soon as r = n - 1, which is so whenever n <= d + 1. Take n ten times d or more, or SVCCA.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.rows import centred, precise_pair
from picolm.errors import PicoLMError

# What float32 resolves.
_TOLERANCE = 1e-6


def cca(x: Tensor, y: Tensor, *, tolerance: float = _TOLERANCE) -> dict[str, Tensor]:
    """Mean canonical correlation, and mean squared (R^2_CCA).

    With U an orthonormal basis of the kept directions of X and V one of Y, rho_i are the singular values of U^T V.

    Args:
        x: [..., n, d], n >= 2.
        y: [..., n, d'], the same rows.
        tolerance: see above.

    Returns:
        `mean`, over the min(r, r') correlations; `mean_squared`; `chance`, what `mean_squared` is on average for
        unrelated activations. Each [...], float64, from 0 to 1; NaN where all rows of a side are equal, or one is not
        finite.

    Raises:
        PicoLMError: the rows do not fit, or there are fewer than two.

    Source:
        Hotelling 1936; as measures of representations: Raghu et al. 2017, Kornblith et al. 2019. O(n d^2).
    """
    return _means(_canonical(x, y, tolerance=tolerance))


def svcca(x: Tensor, y: Tensor, *, variance: float = 0.99) -> dict[str, Tensor]:
    """SVCCA: canonical correlations of the principal components that make up a share of the variance.

    Variance is of s^2: 99 % of it are far fewer components than 99 % of the sum of s, which some implementations take
    (anatome).

    Args:
        x: [..., n, d], n >= 2.
        y: [..., n, d'], the same rows.
        variance: the share that is kept on each side, by as few components as can.

    Returns:
        As `cca`.

    Raises:
        PicoLMError: as `cca`, or the share is none.

    Source:
        Raghu et al. 2017 (arXiv 1706.05806). O(n d^2).
    """
    if not 0 < variance <= 1:
        raise PicoLMError(f"a share of variance must be above 0 and up to 1, not {variance}")
    return _means(_canonical(x, y, tolerance=_TOLERANCE, variance=variance))


def pwcca(x: Tensor, y: Tensor, *, tolerance: float = _TOLERANCE) -> dict[str, Tensor]:
    """Projection-weighted CCA: correlations weighted by how much of a side its canonical directions carry.

        sum_i alpha_i rho_i / sum_i alpha_i,   alpha_i = sum_j |h_i . x_j|,

    h_i the orthonormal canonical variates of a side, x_j its columns. The two sides differ.

    Args:
        x: [..., n, d], n >= 2.
        y: [..., n, d'], the same rows.
        tolerance: see above.

    Returns:
        `first`, weighted by X; `second`, weighted by Y; their `mean`. Each [...], float64, from 0 to 1; NaN as for
        `cca`. Mixing the columns of a side leaves the correlations, and changes their weights a little.

    Raises:
        PicoLMError: as `cca`.

    Source:
        Morcos, Raghu & Bengio 2018 (arXiv 1806.05759); the mean as in repsim. O(n d^2).
    """
    sides = _canonical(x, y, tolerance=tolerance, vectors=True)
    first, second = sides.weighted(sides.x), sides.weighted(sides.y)
    return {"first": first, "second": second, "mean": (first + second) / 2}


@dataclass(frozen=True, slots=True)
class _Side:
    rows: Tensor
    """Centred [..., n, d]."""
    basis: Tensor
    """[..., n, k], orthonormal; directions that are left out are zero."""
    rank: Tensor
    """[...]: how many are not."""
    directions: Tensor | None = None
    """[..., k, c]: the canonical ones in the basis."""


@dataclass(frozen=True, slots=True)
class _Canonical:
    x: _Side
    y: _Side
    correlations: Tensor
    """[..., c], descending; beyond the rank of a side, 0."""

    @property
    def rank(self) -> Tensor:
        return torch.minimum(self.x.rank, self.y.rank)

    def weighted(self, side: _Side) -> Tensor:
        assert side.directions is not None
        variates = side.basis @ side.directions
        weights = (variates.mT @ side.rows).abs().sum(-1)
        places = torch.arange(weights.shape[-1], device=weights.device)
        weights = torch.where(places < self.rank[..., None], weights, 0.0)
        return (weights * self.correlations).sum(-1) / weights.sum(-1)


def _canonical(
    x: Tensor, y: Tensor, *, tolerance: float, variance: float | None = None, vectors: bool = False
) -> _Canonical:
    x, y = precise_pair(x, y, least=2)
    one, other = (_side(rows, tolerance, variance) for rows in (x, y))
    between = one.basis.mT @ other.basis
    if not vectors:
        return _Canonical(one, other, _known(torch.linalg.svdvals(between), one, other))
    left, values, right = torch.linalg.svd(between, full_matrices=False)
    return _Canonical(replace(one, directions=left), replace(other, directions=right.mT), _known(values, one, other))


def _side(rows: Tensor, tolerance: float, variance: float | None) -> _Side:
    rows = centred(rows)
    finite = rows.isfinite().all(-1).all(-1)
    # One that is not finite would stop the decomposition of the whole stack; of rank 0 it comes to NaN.
    rows = torch.where(finite[..., None, None], rows, 0.0)
    basis, values, _ = torch.linalg.svd(rows, full_matrices=False)
    kept = values > tolerance * values[..., :1]
    if variance is not None:
        energy = values.square().cumsum(-1)
        # A component is kept when those before it do not make up the share yet.
        kept &= (energy - values.square()) < variance * energy[..., -1:]
    return _Side(rows, basis * kept[..., None, :], kept.sum(-1))


def _known(values: Tensor, one: _Side, other: _Side) -> Tensor:
    # Rounding alone exceeds 1. A side of rank 0 has no correlations, not correlations of 0.
    known = (one.rank > 0) & (other.rank > 0)
    return torch.where(known[..., None], values.clamp(max=1.0), torch.nan)


def _means(found: _Canonical) -> dict[str, Tensor]:
    rank = found.rank.double()
    largest = torch.maximum(found.x.rank, found.y.rank)
    chance = largest / (found.x.rows.shape[-2] - 1)
    return {
        "mean": found.correlations.sum(-1) / rank,
        "mean_squared": found.correlations.square().sum(-1) / rank,
        "chance": torch.where(rank > 0, chance.double(), torch.nan),
    }


CCA = Metric(
    "cca",
    "activation_pair",
    cca,
    (0.0, 1.0),
    "Mean canonical correlation, mean squared, and what the latter is for unrelated activations.",
)
SVCCA = Metric(
    "svcca",
    "activation_pair",
    svcca,
    (0.0, 1.0),
    "Mean canonical correlation of the principal components that make up 99 % of the variance.",
)
PWCCA = Metric(
    "pwcca",
    "activation_pair",
    pwcca,
    (0.0, 1.0),
    "Canonical correlations weighted by what they carry of the first side, of the second, and the mean of both.",
)
