"""Representational similarity analysis: whether two sets of activations find the same rows alike and unlike."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from picolm.analysis.chance import permutations_of
from picolm.analysis.metric import Metric
from picolm.analysis.rows import precise_pair, precise_rows

Distance = Literal["correlation", "euclidean"]

# Dissimilarities that differ by less than this part of the largest are equal.
_DISTINCT = 1e11


def dissimilarities(activations: Tensor, *, distance: Distance = "correlation") -> Tensor:
    """How unlike each two rows are (RDM).

    Args:
        activations: [..., n, d].
        distance: `correlation`, 1 - Pearson's r of two rows, which needs d >= 2; or `euclidean`.

    Returns:
        [..., n, n], float64, symmetric, 0 on the diagonal. A row whose columns are all equal has no correlation: NaN.

    Raises:
        PicoLMError: there are no rows.

    Source:
        Kriegeskorte et al. 2008. O(n^2 d).
    """
    rows = precise_rows(activations, least=1)
    own = torch.eye(rows.shape[-2], dtype=torch.bool, device=rows.device)
    if distance == "euclidean":
        rows = rows - rows.mean(-2, keepdim=True)
        lengths = rows.square().sum(-1)
        squares = lengths[..., :, None] + lengths[..., None, :] - 2 * rows @ rows.mT
        # Of equal rows rounding leaves a distance, of which the root would be large.
        rounding = 1e-14 * lengths.amax(-1)[..., None, None]
        return torch.where(own | (squares <= rounding), 0.0, squares).sqrt()
    deviations = rows - rows.mean(-1, keepdim=True)
    rounding = 1e-14 * rows.abs().amax(-1, keepdim=True)
    deviations = torch.where(deviations.abs() <= rounding, 0.0, deviations)
    unit = deviations / torch.linalg.vector_norm(deviations, dim=-1, keepdim=True)
    # NaN on the diagonal too, where a row has no correlation.
    return torch.where(own, 0.0 * unit.sum(-1, keepdim=True), 1 - unit @ unit.mT)


def rsa(x: Tensor, y: Tensor, *, distance: Distance = "correlation") -> Tensor:
    """Spearman's correlation between the dissimilarities of all pairs of rows, equal ones sharing their mean rank.

    The n (n - 1) / 2 pairs are not independent, so no test of a correlation applies: see `rsa_null`.

    Args:
        x: [..., n, d], n >= 3.
        y: [..., n, d'], the same rows.
        distance: as for `dissimilarities`. Squaring distances changes no rank.

    Returns:
        [...], float64, from -1 to 1; NaN where all pairs of a side are equally unlike, or a dissimilarity is NaN.

    Raises:
        PicoLMError: the rows do not fit, or there are fewer than three.

    Source:
        Kriegeskorte et al. 2008. O(n^2 (d + log n)).
    """
    x, y = precise_pair(x, y, least=3)
    above = torch.triu_indices(x.shape[-2], x.shape[-2], offset=1, device=x.device)
    one, other = (dissimilarities(rows, distance=distance)[..., *above] for rows in (x, y))
    return (_unit_ranks(one) * _unit_ranks(other)).sum(-1)


def rsa_null(
    x: Tensor, y: Tensor, *, distance: Distance = "correlation", permutations: int = 100, seed: int = 0
) -> Tensor:
    """`rsa` after permutations of the rows of y; ranks are taken once, as no permutation changes them.

    Args:
        x: [..., n, d], n >= 3.
        y: [..., n, d'], the same rows.
        distance: as for `dissimilarities`.
        permutations: how many.
        seed: of them.

    Returns:
        [..., permutations], float64, NaN as for `rsa`.

    Raises:
        PicoLMError: as `rsa`, or no permutation is asked for.

    Source:
        Mantel 1967. O(n^2) a permutation.
    """
    x, y = precise_pair(x, y, least=3)
    n = x.shape[-2]
    first, second = torch.triu_indices(n, n, offset=1, device=x.device)
    one, other = (_unit_ranks(dissimilarities(rows, distance=distance)[..., first, second]) for rows in (x, y))
    square = other.new_zeros(*other.shape[:-1], n, n)
    square[..., first, second] = square[..., second, first] = other
    orders = permutations_of(n, count=permutations, seed=seed).to(x.device)
    return torch.stack([(one * square[..., order[first], order[second]]).sum(-1) for order in orders], dim=-1)


def _unit_ranks(values: Tensor) -> Tensor:
    """Mean ranks, centred, of length 1, so that their products are correlations; NaN where all are equal."""
    # Equal ones, as of repeated tokens, must be equal whatever rounding has made of them.
    values = (values / values.abs().amax(-1, keepdim=True) * _DISTINCT).round()
    ordered = values.sort(-1).values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    ranks = (below + up_to).double()
    centred = ranks - ranks.mean(-1, keepdim=True)
    unit = centred / torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    return torch.where(ordered[..., -1:].isnan(), torch.nan, unit)


RSA = Metric(
    "rsa",
    "activation_pair",
    rsa,
    (-1.0, 1.0),
    "Spearman's correlation of the dissimilarities (1 - correlation) of all pairs of rows.",
)
