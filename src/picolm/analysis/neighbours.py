"""Whether rows have the same neighbours in two sets of activations.

Neighbours are by cosine. Rows that are equal are neighbours of each other before all others, in no order that means
anything: leave repeated tokens out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from picolm.analysis.kernel_cka import hsic_of
from picolm.analysis.metric import Metric
from picolm.analysis.rows import precise_pair
from picolm.errors import PicoLMError


def mutual_knn(x: Tensor, y: Tensor, *, k: int = 10) -> Tensor:
    """Share of a row's k nearest neighbours that are the same on both sides, on average.

    Args:
        x: [..., n, d], n > k.
        y: [..., n, d'], the same rows.
        k: neighbours.

    Returns:
        [...], float64, from 0 to 1; k / (n - 1) on average for unrelated activations. NaN where a row is zero or not
        finite.

    Raises:
        PicoLMError: the rows do not fit, or there are not k others.

    Source:
        Huh et al. 2024 (arXiv 2405.07987). O(n^2 (d + d')).
    """
    x, y = _unit_pair(x, y, k, least=2)
    shared = (_nearest(x @ x.mT, k) & _nearest(y @ y.mT, k)).sum(-1)
    return _where_known(shared.double().mean(-1) / k, x, y)


def cknna(x: Tensor, y: Tensor, *, k: int = 10) -> Tensor:
    """CKA of nearest neighbours: debiased CKA of kernels that keep only pairs near on both sides.

    With K and L the cosines, A_ij = 1 where j is among the k nearest of i in X, B_ij the same in Y, and H the unbiased
    estimator of HSIC:

        H(A B K, A B L) / sqrt(H(A K, A K) H(B L, B L))

    With k = n - 1 it is `debiased_cka` of the unit rows.

    Args:
        x: [..., n, d], n >= 4 and n > k.
        y: [..., n, d'], the same rows.
        k: neighbours, two or more.

    Returns:
        [...], float64, up to 1; of unrelated activations not 0 but somewhat below k / (n - 1). NaN where a
        row is zero or not finite, or a side's own value is not positive.

    Raises:
        PicoLMError: the rows do not fit, or there are not k others, or k is below two.

    Source:
        Huh et al. 2024 (arXiv 2405.07987), as its code has it. O(n^2 (d + d')).
    """
    if k < 2:
        raise PicoLMError(f"CKNNA needs two neighbours or more, not {k}")
    x, y = _unit_pair(x, y, k, least=4)
    gram_x, gram_y = x @ x.mT, y @ y.mT
    near_x, near_y = _nearest(gram_x, k), _nearest(gram_y, k)
    both = near_x & near_y
    xy = hsic_of(both * gram_x, both * gram_y)
    xx, yy = (hsic_of(near * gram, near * gram) for near, gram in ((near_x, gram_x), (near_y, gram_y)))
    positive = (xx > 0) & (yy > 0)
    return _where_known(torch.where(positive, xy / (xx * yy).sqrt(), torch.nan), x, y)


def _unit_pair(x: Tensor, y: Tensor, k: int, *, least: int) -> tuple[Tensor, Tensor]:
    x, y = precise_pair(x, y, least=least)
    if not 1 <= k < x.shape[-2]:
        raise PicoLMError(f"of {x.shape[-2]} rows each has {x.shape[-2] - 1} neighbours, so k cannot be {k}")
    one, other = (rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True) for rows in (x, y))
    return one, other


def _nearest(cosines: Tensor, k: int) -> Tensor:
    """Which rows are among the k nearest of each, itself left out [..., n, n]."""
    own = torch.eye(cosines.shape[-1], dtype=torch.bool, device=cosines.device)
    places = torch.where(own, -torch.inf, cosines).topk(k, dim=-1).indices
    return torch.zeros_like(cosines, dtype=torch.bool).scatter(-1, places, True)


def _where_known(value: Tensor, x: Tensor, y: Tensor) -> Tensor:
    # Zero rows have become NaN, which no order of cosines would show.
    known = x.isfinite().all(-1).all(-1) & y.isfinite().all(-1).all(-1)
    return torch.where(known, value, torch.nan)


MUTUAL_KNN = Metric(
    "mutual_knn",
    "activation_pair",
    mutual_knn,
    (0.0, 1.0),
    "Share of the 10 nearest neighbours of a row that are the same on both sides.",
)
CKNNA = Metric(
    "cknna",
    "activation_pair",
    cknna,
    (float("-inf"), 1.0),
    "Debiased CKA of kernels that keep only pairs among the 10 nearest neighbours on both sides.",
)
