"""How many directions activations use."""

from __future__ import annotations

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.rows import centred, precise_rows
from picolm.analysis.spectrum import spectrum


def rank_me(activations: Tensor, *, epsilon: float = 1e-7) -> Tensor:
    """RankMe: exp(-sum_k p_k ln p_k), p_k = s_k / sum s + epsilon, of activations as they are.

    Not centred, as published: a mean that all rows share is one large direction. It needs n well above d.

    Args:
        activations: [..., n, d].
        epsilon: of the publication.

    Returns:
        [...], float64, from 1 to min(n, d), but for what epsilon adds; NaN where all rows are zero, or one is not
        finite.

    Raises:
        PicoLMError: there are no rows.

    Source:
        Garrido et al. 2023 (arXiv 2210.02885). One SVD.
    """
    values = spectrum(precise_rows(activations, least=1)).values
    shares = values / values.sum(-1, keepdim=True) + epsilon
    rank: Tensor = torch.special.entr(shares).sum(-1).exp()
    return rank


def activation_participation_ratio(activations: Tensor) -> Tensor:
    """Participation ratio of the covariance S of the rows: (tr S)^2 / tr S^2.

    With n rows, 1 / PR is too large by about 1 / (n - 1): independent dimensions of equal variance give
    d n / (d + n), not d. Compare at equal n, and take n several times the value.

    Args:
        activations: [..., n, d], n >= 2.

    Returns:
        [...], float64, from 1 to min(n - 1, d); NaN where all rows are equal or one is not finite.

    Raises:
        PicoLMError: there are fewer than two rows.

    Source:
        Gao et al. 2017 (bioRxiv 214262). O(n d min(n, d)), no SVD: tr S^2 is the squared norm of the covariance, or of
        the Gram matrix where that is smaller.
    """
    rows = centred(precise_rows(activations, least=2))
    rows = rows / rows.abs().amax((-2, -1), keepdim=True)
    n, d = rows.shape[-2:]
    products = rows.mT @ rows if d <= n else rows @ rows.mT
    return products.diagonal(dim1=-2, dim2=-1).sum(-1).square() / products.square().sum((-2, -1))


RANK_ME = Metric("rank_me", "activations", rank_me, (1.0, float("inf")), "RankMe: effective rank of the activations.")
ACTIVATION_PARTICIPATION_RATIO = Metric(
    "activation_participation_ratio",
    "activations",
    activation_participation_ratio,
    (1.0, float("inf")),
    "Number of directions that share the variance of the activations.",
)
