"""Centred kernel alignment with linear kernels: how alike two sets of activations are up to rotation and scale.

X [n, d] and Y [n, d'] are centred, k_i = |x_i|^2 and m_i = |y_i|^2. All sums of products are computed in features or
between rows, whichever is smaller, as |X^T Y|_F^2 = <X X^T, Y Y^T>. Leading dimensions are layers or checkpoints.

Which estimator: with fewer rows than several times the width the biased one is far above 0 for unrelated activations
(0.52 at d = 1,536 and n = 1,435), and more so the wider the model; the debiased one is 0 on average whatever n and d.
Both are ruled by the few directions of largest variance, and neither compares across different rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.rows import centred, precise_pair
from picolm.errors import PicoLMError

# A sum of products that cancels to less than this share of its largest part is rounding error.
_CANCELLED = 1e-12


def debiased_cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear CKA from the unbiased estimator of HSIC.

        CKA = H(X, Y) / sqrt(H(X, X) H(Y, Y)),
        H(X, Y) = |X^T Y|_F^2 - n / (n - 2) sum_i k_i m_i + sum_i k_i sum_i m_i / ((n - 1) (n - 2))

    Over all permutations of the rows of one side its mean is exactly 0.

    Args:
        x: [..., n, d], n >= 4.
        y: [..., n, d'], the same rows.

    Returns:
        [...], float64, from -1 to 1; below 0 where there is less in common than by chance. NaN where all rows of a side
        are equal, or equally far from each other, or one is not finite.

    Raises:
        PicoLMError: the rows do not fit, or there are fewer than four.

    Source:
        Kornblith et al. 2019 (arXiv 1905.00414), debiased as in its code; Song et al. 2012 (JMLR 13) for HSIC.
        O(n d d') or O(n^2 (d + d')).
    """
    x, y = map(centred, precise_pair(x, y, least=4))
    xx, xy, yy = products(x, y)
    k, m = squared_lengths(x), squared_lengths(y)
    return debiased_ratio(unbiased_hsic(xy, k, m), unbiased_hsic(xx, k, k), unbiased_hsic(yy, m, m), xx, yy)


def biased_cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear CKA as first published: |X^T Y|_F^2 / (|X^T X|_F |Y^T Y|_F).

    To be read beside `biased_cka_chance`, what unrelated activations of the same spectra give.

    Args:
        x: [..., n, d], n >= 2.
        y: [..., n, d'], the same rows.

    Returns:
        [...], float64, from 0 to 1; NaN where all rows of a side are equal, or one is not finite.

    Raises:
        PicoLMError: the rows do not fit, or there are fewer than two.

    Source:
        Kornblith et al. 2019 (arXiv 1905.00414). O(n d d') or O(n^2 (d + d')).
    """
    xx, xy, yy = products(*map(centred, precise_pair(x, y, least=2)))
    return xy / (xx * yy).sqrt()


def minibatch_cka(batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Linear CKA from minibatches, with H_b the unbiased estimator of HSIC in a batch.

        CKA = sum_b H_b(X, Y) / sqrt(sum_b H_b(X, X) sum_b H_b(Y, Y))

    It estimates a slightly different quantity, the more so the smaller the batches; `CKAStream` gives the value of all
    rows from the same batches. It is here to compare with figures that were made so.

    Args:
        batches: of rows x [..., n_b, d] and y [..., n_b, d'], each n_b >= 4.

    Returns:
        [...], float64, as `debiased_cka`.

    Raises:
        PicoLMError: there is no batch, or its rows do not fit or are fewer than four.

    Source:
        Nguyen, Raghu & Kornblith 2021 (arXiv 2010.15327). O(n d d').
    """
    sums: list[Tensor] = []
    for batch in batches:
        x, y = map(centred, precise_pair(*batch, least=4))
        xx, xy, yy = products(x, y)
        k, m, n = squared_lengths(x), squared_lengths(y), x.shape[-2]
        hsic = [unbiased_hsic(xy, k, m), unbiased_hsic(xx, k, k), unbiased_hsic(yy, m, m)]
        terms = [*(one / (n * (n - 3)) for one in hsic), xx / n**2, yy / n**2]
        sums = [total + term for total, term in zip(sums, terms, strict=True)] if sums else terms
    if not sums:
        raise PicoLMError("CKA of minibatches needs a batch at least")
    return debiased_ratio(*sums)


def products(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """<X X^T, X X^T>, <X X^T, Y Y^T> and <Y Y^T, Y Y^T> of centred rows, each [...]."""
    if max(x.shape[-1], y.shape[-1]) <= x.shape[-2]:
        return _squared(x.mT @ x), _squared(x.mT @ y), _squared(y.mT @ y)
    gram_x, gram_y = x @ x.mT, y @ y.mT
    return _squared(gram_x), (gram_x * gram_y).sum((-2, -1)), _squared(gram_y)


def unbiased_hsic(product: Tensor, k: Tensor, m: Tensor) -> Tensor:
    """The unbiased estimator of HSIC, times n (n - 3): H above.

    Args:
        product: <X X^T, Y Y^T> of centred rows [...].
        k: squared lengths of the rows of X [..., n].
        m: those of Y.
    """
    n = k.shape[-1]
    return product - n / (n - 2) * (k * m).sum(-1) + k.sum(-1) * m.sum(-1) / ((n - 1) * (n - 2))


def debiased_ratio(xy: Tensor, xx: Tensor, yy: Tensor, whole_xx: Tensor, whole_yy: Tensor) -> Tensor:
    """Divide xy by sqrt(xx yy); NaN where xx or yy is nothing beside what it was subtracted from."""
    known = (xx > _CANCELLED * whole_xx) & (yy > _CANCELLED * whole_yy)
    return torch.where(known, xy / (xx * yy).sqrt(), torch.nan)


def squared_lengths(rows: Tensor) -> Tensor:
    """|x_i|^2 [..., n]."""
    return rows.square().sum(-1)


def _squared(matrix: Tensor) -> Tensor:
    return matrix.square().sum((-2, -1))


CKA = Metric(
    "cka",
    "activation_pair",
    debiased_cka,
    (-1.0, 1.0),
    "Linear CKA, debiased: 1 for activations alike up to rotation and scale, 0 on average for unrelated ones.",
)
BIASED_CKA = Metric(
    "biased_cka",
    "activation_pair",
    biased_cka,
    (0.0, 1.0),
    "Linear CKA as first published; of unrelated activations it is not 0 but biased_cka_chance.",
)
