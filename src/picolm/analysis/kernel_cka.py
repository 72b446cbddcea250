"""Centred kernel alignment with Gaussian (RBF) kernels, which look at near rows more than at far ones."""

from __future__ import annotations

import torch
from torch import Tensor

from picolm.analysis.cka import debiased_ratio
from picolm.analysis.metric import Metric
from picolm.analysis.rows import centred, precise_pair
from picolm.errors import PicoLMError


def rbf_cka(x: Tensor, y: Tensor, *, bandwidth: float = 1.0, debiased: bool = True) -> Tensor:
    """CKA with kernels K_ij = exp(-|x_i - x_j|^2 / (2 bandwidth^2 M)).

    M is the median of all n^2 SQUARED distances, zeros of the diagonal included: the convention of Kornblith et al.
    Others (repsim) take the median of the distances, diagonal left out, and square it. Bandwidths are comparable only
    within a convention.

    Args:
        x: [..., n, d], n >= 4.
        y: [..., n, d'], the same rows.
        bandwidth: in units of the root of M.
        debiased: with the unbiased estimator of HSIC, of mean 0 under permutations; else as first published.

    Returns:
        [...], float64, from -1 (biased: 0) to 1; NaN where half of the distances of a side are 0, or a row is not
        finite.

    Raises:
        PicoLMError: the rows do not fit or are fewer than four, or the bandwidth is not positive.

    Source:
        Kornblith et al. 2019 (arXiv 1905.00414). O(n^2 (d + d')), two n x n matrices.
    """
    if not bandwidth > 0:
        raise PicoLMError(f"a bandwidth must be above 0, not {bandwidth}")
    x, y = precise_pair(x, y, least=4)
    gram_x, gram_y = _gaussian(centred(x), bandwidth), _gaussian(centred(y), bandwidth)
    if debiased:
        x, y = _without_diagonal(gram_x), _without_diagonal(gram_y)
        whole = x.square().sum((-2, -1)), y.square().sum((-2, -1))
        return debiased_ratio(hsic_of(x, y), hsic_of(x, x), hsic_of(y, y), *whole)
    gram_x, gram_y = (centred(gram.mT).mT for gram in (centred(gram_x), centred(gram_y)))
    norms = torch.linalg.matrix_norm(gram_x) * torch.linalg.matrix_norm(gram_y)
    ratio: Tensor = (gram_x * gram_y).sum((-2, -1)) / norms
    return ratio


def hsic_of(x: Tensor, y: Tensor) -> Tensor:
    """The unbiased estimator of HSIC, times n (n - 3), of kernels K and L whose diagonals are 0.

        tr(K L) + 1^T K 1 1^T L 1 / ((n - 1) (n - 2)) - 2 / (n - 2) 1^T K L 1

    Args:
        x: K [..., n, n], n >= 4.
        y: L [..., n, n].

    Returns:
        [...].

    Source:
        Song et al. 2012 (JMLR 13). O(n^2).
    """
    n = x.shape[-1]
    trace = (x * y.mT).sum((-2, -1))
    sums = x.sum((-2, -1)) * y.sum((-2, -1)) / ((n - 1) * (n - 2))
    return trace + sums - 2 / (n - 2) * (x.sum(-2) * y.sum(-1)).sum(-1)


def _without_diagonal(gram: Tensor) -> Tensor:
    own = torch.eye(gram.shape[-1], dtype=torch.bool, device=gram.device)
    return torch.where(own, 0.0, gram)


def _gaussian(rows: Tensor, bandwidth: float) -> Tensor:
    lengths = rows.square().sum(-1)
    distances = (lengths[..., :, None] + lengths[..., None, :] - 2 * rows @ rows.mT).clamp(min=0.0)
    distances = _without_diagonal(distances)
    median = _median(distances.flatten(-2))[..., None, None]
    return (-distances / (2 * bandwidth**2 * torch.where(median > 0, median, torch.nan))).exp()


def _median(values: Tensor) -> Tensor:
    """The mean of the two in the middle where there is an even number, unlike `torch.median`."""
    n = values.shape[-1]
    lower, upper = (values.kthvalue(place + 1, dim=-1).values for place in ((n - 1) // 2, n // 2))
    return (lower + upper) / 2


RBF_CKA = Metric(
    "rbf_cka",
    "activation_pair",
    rbf_cka,
    (-1.0, 1.0),
    "CKA with Gaussian kernels, debiased; the bandwidth is the root of the median squared distance.",
)
