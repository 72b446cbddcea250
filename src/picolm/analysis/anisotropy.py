"""Anisotropy: whether activations fill their space or crowd into a cone.

Shapes: n rows (tokens), d dimensions; leading dimensions are layers, checkpoints, whatever is compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.rows import centred, precise_rows
from picolm.errors import PicoLMError
from picolm.randomness import generator


def mean_cosine(activations: Tensor) -> Tensor:
    """Mean cosine over all pairs of different rows, exactly.

    With unit rows u: (|sum_i u_i|^2 - n) / (n (n - 1)).

    An offset that all rows share raises it, and so do a few dimensions of large scale, without any row saying less:
    see `centred_mean_cosine` and `cosine_without_outliers`. It depends on which tokens are in the rows (types,
    frequencies, positions), so only values on the same rows compare.

    Args:
        activations: [..., n, d], n >= 2.

    Returns:
        [...], float64, from -1 / (n - 1) to 1; NaN where a row is zero, which has no direction, or not finite.

    Source:
        Ethayarajh 2019 (arXiv 1909.00512), there from sampled pairs. O(n d).
    """
    return _mean(precise_rows(activations, least=2))


def centred_mean_cosine(activations: Tensor) -> Tensor:
    """`mean_cosine` after the mean row is taken from every row.

    Args:
        activations: [..., n, d], n >= 2.

    Returns:
        [...], float64, from -1 / (n - 1) to 1; NaN where a row is the mean itself or not finite.

    Source:
        Cai et al. 2021 (ICLR, "Isotropy in the contextual embedding space"). O(n d).
    """
    return _mean(centred(precise_rows(activations, least=2)))


def cosine_without_outliers(activations: Tensor, *, outliers: int = 3) -> Tensor:
    """`mean_cosine` without the dimensions that contribute most to it.

    Dimension j contributes ((sum_i u_ij)^2 - sum_i u_ij^2) / (n (n - 1)); over all j that is the mean cosine. The
    largest contributions are taken away and the cosines computed anew.

    Args:
        activations: [..., n, d], n >= 2.
        outliers: how many dimensions are left out.

    Returns:
        [...], float64, from -1 / (n - 1) to 1; NaN where a row is zero or not finite.

    Raises:
        PicoLMError: no dimension would be left.

    Source:
        Timkey & van Schijndel 2021 (arXiv 2109.04404). O(n d).
    """
    rows = precise_rows(activations, least=2)
    if not 0 <= outliers < rows.shape[-1]:
        raise PicoLMError(
            f"of {rows.shape[-1]} dimensions, between 0 and {rows.shape[-1] - 1} can be left out, not {outliers}"
        )
    left_out = _contributions(rows).topk(outliers, dim=-1).indices
    kept = torch.ones_like(rows[..., 0, :]).scatter(-1, left_out, 0.0)
    return _mean(rows * kept[..., None, :])


def iso_score(activations: Tensor) -> Tensor:
    """IsoScore: the share of dimensions that the variance fills evenly.

    With l the eigenvalues of the covariance, the paper's steps (scale l to length sqrt(d), take the distance from
    (1, ..., 1), map it to [0, 1]) come to

        IsoScore = ((sum l)^2 / sum l^2 - 1) / (d - 1),

    the participation ratio on a scale from 0 to 1: k equal variances and d - k zeros give (k - 1) / (d - 1). Unlike the
    mean cosine it knows no mean and no rotation. n rows span n - 1 dimensions at most, so with n < d it cannot reach 1;
    compare at equal n, and take n well above d.

    Args:
        activations: [..., n, d], n >= 2, d >= 2.

    Returns:
        [...], float64, from 0 to 1; NaN where all rows are equal or one is not finite.

    Raises:
        PicoLMError: there is one dimension, of which no share can be told.

    Source:
        Rudman et al. 2022 (arXiv 2108.07344). O(n d min(n, d)), no eigenvalues needed: sum l^2 is the squared norm of
        the covariance, or of the Gram matrix where that is smaller.
    """
    rows = precise_rows(activations, least=2)
    n, d = rows.shape[-2:]
    if d < 2:
        raise PicoLMError("IsoScore needs activations of two dimensions or more")
    spread = centred(rows)
    # So that no square of a square vanishes or overflows; NaN where there is nothing to scale.
    spread = spread / spread.abs().amax((-2, -1), keepdim=True)
    products = spread.mT @ spread if d <= n else spread @ spread.mT
    ratio = products.diagonal(dim1=-2, dim2=-1).sum(-1).square() / products.square().sum((-2, -1))
    return ((ratio - 1) / (d - 1)).clamp(0.0, 1.0)


def sampled_cosine(activations: Tensor, *, pairs: int = 1001, seed: int = 42) -> dict[str, Tensor]:
    """Mean cosine of sampled pairs, as it was published: two sequences, one position in each.

    For comparison with such figures only: `mean_cosine` has no sampling error and costs less.

    Args:
        activations: [..., R, T, d]: R sequences of T positions, R >= 2; all leading dimensions see the same pairs.
        pairs: how many are drawn.
        seed: of the draws.

    Returns:
        `value`, the mean [...], float64, and `se`, its standard error [...]; NaN where a sampled row is zero.

    Raises:
        PicoLMError: there are fewer than two sequences, or no two pairs to take an error from.

    Source:
        The code of Diehl Martinez et al. 2024 (arXiv 2410.11462): 1001 pairs of sequences of 128 tokens, at the output
        of each block; the published number is the mean over blocks. O(pairs d).
    """
    if activations.ndim < 3 or activations.shape[-3] < 2 or pairs < 2:
        raise PicoLMError(
            "sampled cosines need activations [..., R, T, d] of two sequences or more, and two pairs or more"
        )
    n_sequences, length = activations.shape[-3:-1]
    rng = generator(seed, "sampled cosine")
    first = torch.from_numpy(rng.integers(0, n_sequences, pairs))
    # Any of the others, each as likely.
    second = (first + torch.from_numpy(rng.integers(1, n_sequences, pairs))) % n_sequences
    places = torch.from_numpy(rng.integers(0, length, (2, pairs)))
    one, other = activations[..., first, places[0], :].double(), activations[..., second, places[1], :].double()
    cosines = (_unit(one) * _unit(other)).sum(-1)
    return {"value": cosines.mean(-1), "se": cosines.std(-1) / pairs**0.5}


def _unit(rows: Tensor) -> Tensor:
    # Scaled first, so that no square of a tiny or huge number decides. Zero rows become 0 / 0, NaN.
    scaled = rows / rows.abs().amax(-1, keepdim=True)
    unit: Tensor = scaled / torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return unit


def _contributions(rows: Tensor) -> Tensor:
    """What each dimension adds to the mean cosine, [..., d]."""
    unit, n = _unit(rows), rows.shape[-2]
    contributions: Tensor = (unit.sum(-2).square() - unit.square().sum(-2)) / (n * (n - 1))
    return contributions


def _mean(rows: Tensor) -> Tensor:
    # Rounding alone can go beyond 1.
    return _contributions(rows).sum(-1).clamp(-1.0, 1.0)


MEAN_COSINE = Metric(
    "mean_cosine",
    "activations",
    mean_cosine,
    (-1.0, 1.0),
    "Mean cosine between the rows of all pairs; 1: all point one way.",
)
CENTRED_MEAN_COSINE = Metric(
    "centred_mean_cosine",
    "activations",
    centred_mean_cosine,
    (-1.0, 1.0),
    "Mean cosine between all pairs of rows after the mean row is taken away.",
)
COSINE_WITHOUT_OUTLIERS = Metric(
    "cosine_without_outliers",
    "activations",
    cosine_without_outliers,
    (-1.0, 1.0),
    "Mean cosine between all pairs of rows without the three dimensions that contribute most to it.",
)
ISO_SCORE = Metric(
    "iso_score",
    "activations",
    iso_score,
    (0.0, 1.0),
    "IsoScore: the share of dimensions that the variance fills evenly, from 0 (a line) to 1 (a ball).",
)
