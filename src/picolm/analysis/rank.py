"""How many directions a matrix uses: rank, counted in several ways.

With s_1 >= s_2 >= ... the singular values, p_i = s_i / sum s and q_i = s_i^2 / sum s^2, these are Renyi entropies, and
for every matrix

    stable rank <= participation ratio <= exp H(q) <= exp H(p) <= rank.

All are blind to scale and to rotations of either side. What is reported of a weight is best read beside the same number
for noise of its shape (`random_matrices`), at which initialisation begins.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.spectrum import Matrix, Spectrum, spectrum
from picolm.errors import PicoLMError


def effective_rank(matrix: Matrix, *, power: int = 1) -> Tensor:
    """Effective rank: exp(-sum_i p_i ln p_i), the exponential of the entropy of the singular values.

    Args:
        matrix: [..., m, n], or its spectrum.
        power: 1 as published, p_i from s_i; 2 for shares of energy, exp H(q), from s_i^2.

    Returns:
        [...], float64, from 1 to min(m, n); NaN for a zero matrix and one that is not finite.

    Source:
        Roy & Vetterli 2007 (EUSIPCO). One SVD.
    """
    shares = _shares(_relative(spectrum(matrix)).pow(power))
    rank: Tensor = torch.special.entr(shares).sum(-1).exp()
    return rank


def proportional_effective_rank(matrix: Matrix, *, top: int | None = None, denominator: int | None = None) -> Tensor:
    """Proportional effective rank, PER: effective rank over the largest rank that is possible.

    It has been published in four ways that share a name but no scale; a number needs its denominator said beside it:

    ==========================================  ===================================================================
    PER(W)                                      over min(m, n): the default; of a product over min(m, n, inner)
    PER(W, top=k)                               of the k largest singular values, over k: what the main figure of
                                                Diehl Martinez et al. 2024 shows, with k the width of a head, for the
                                                feed-forward layer too, where that is 3 to 12 % of the spectrum
    PER(W, denominator=h)                       over the width that an author chose, 4 d for a feed-forward layer
    ==========================================  ===================================================================

    Args:
        matrix: [..., m, n], or its spectrum.
        top: take only so many of the largest singular values.
        denominator: what to divide by; None: as many as there are.

    Returns:
        [...], float64, above 0 and up to 1 (with the default denominator); NaN as for `effective_rank`.

    Raises:
        PicoLMError: there are not so many singular values, or the denominator is not positive.

    Source:
        Diehl Martinez et al. 2024 (arXiv 2410.11451); pico-analyze divides by min(m, n). One SVD.
    """
    whole = spectrum(matrix)
    top = whole.max_rank if top is None else top
    if not 1 <= top <= whole.max_rank:
        raise PicoLMError(f"of {whole.max_rank} singular values, 1 to {whole.max_rank} can be taken, not {top}")
    if denominator is not None and denominator < 1:
        raise PicoLMError(f"an effective rank must be divided by 1 or more, not by {denominator}")
    kept = Spectrum(whole.values[..., :top], whole.shape, whole.precision)
    return effective_rank(kept) / (denominator or top)


def stable_rank(matrix: Matrix) -> Tensor:
    """Stable rank: sum s_i^2 / s_1^2 = |W|_F^2 / |W|_2^2. One large direction decides it.

    Args:
        matrix: [..., m, n], or its spectrum.

    Returns:
        [...], float64, from 1 to min(m, n); of Gaussian noise min(m, n) / (1 + sqrt(gamma))^2, gamma = min / max of the
        sides. NaN for a zero matrix and one that is not finite.

    Source:
        Rudelson & Vershynin 2007. One SVD.
    """
    return _relative(spectrum(matrix)).square().sum(-1)


def participation_ratio(matrix: Matrix) -> Tensor:
    """Participation ratio: (sum s_i^2)^2 / sum s_i^4, the number of directions that share the energy.

    Args:
        matrix: [..., m, n], or its spectrum. Activations go to `activation_participation_ratio`, which centres them.

    Returns:
        [...], float64, from 1 to min(m, n); of Gaussian noise min(m, n) / (1 + gamma). NaN as for `stable_rank`.

    Source:
        Gao et al. 2017 (bioRxiv 214262). One SVD.
    """
    return 1 / _shares(_relative(spectrum(matrix)).square()).square().sum(-1)


def srank(matrix: Matrix, *, delta: float = 0.01) -> Tensor:
    """Effective rank by threshold, srank_delta: the least k with sum_{i<=k} s_i >= (1 - delta) sum s_i.

    Args:
        matrix: [..., m, n], or its spectrum; as published, features [n, d] of a batch.
        delta: the share that may be missing.

    Returns:
        [...], float64, a whole number from 1 to min(m, n); NaN as for `stable_rank`.

    Raises:
        PicoLMError: `delta` is no share.

    Source:
        Kumar et al. 2021 (arXiv 2010.14498). One SVD.
    """
    if not 0 <= delta < 1:
        raise PicoLMError(f"delta must be from 0 to below 1, not {delta}")
    reached = _relative(spectrum(matrix)).cumsum(-1)
    total = reached[..., -1:]
    count = (reached < (1 - delta) * total).sum(-1) + 1.0
    return torch.where(total[..., 0].isnan(), torch.nan, count.double())


def numerical_rank(matrix: Matrix, *, tolerance: float | None = None) -> Tensor:
    """Number of singular values above rounding error: s_i > tolerance * s_1.

    Args:
        matrix: [..., m, n], or its spectrum.
        tolerance: relative to s_1; None: max(m, n) times the rounding error of the entries, that of float32 (1.2e-7)
            unless they are float64. The difference of two checkpoints carries their rounding error, not its own.

    Returns:
        [...], float64, a whole number from 0 to min(m, n); NaN for a matrix that is not finite.

    Source:
        The convention of MATLAB, NumPy and `torch.linalg.matrix_rank`. One SVD.
    """
    known = spectrum(matrix)
    count = (known.values > threshold(known, tolerance)).sum(-1).double()
    return torch.where(known.values[..., 0].isnan(), torch.nan, count)


def threshold(known: Spectrum, tolerance: float | None) -> Tensor:
    """What counts as 0 in a spectrum [..., 1]; see `numerical_rank`."""
    relative = max(known.shape) * known.precision if tolerance is None else tolerance
    return relative * known.values[..., :1]


def _relative(known: Spectrum) -> Tensor:
    # So that no square of a tiny or huge number decides; 0 / 0 is NaN, as a zero matrix has no directions.
    return known.values / known.values[..., :1]


def _shares(values: Tensor) -> Tensor:
    return values / values.sum(-1, keepdim=True)


def per_of_top(top: int) -> Metric:
    """The metric `per_top_K`: PER of the K largest singular values, over K, as in the published main figure.

    Args:
        top: K, there the width of a head; a matrix of lower rank is refused when it is measured.
    """
    function = partial(proportional_effective_rank, top=top)
    summary = f"PER of the {top} largest singular values alone, over {top}."
    return Metric(f"per_top_{top}", "spectrum", function, (0.0, 1.0), summary)


_ANY = (1.0, float("inf"))
EFFECTIVE_RANK = Metric(
    "effective_rank", "spectrum", effective_rank, _ANY, "Exponential of the entropy of the singular values."
)
PER = Metric(
    "per",
    "spectrum",
    proportional_effective_rank,
    (0.0, 1.0),
    "Proportional effective rank: effective rank over the largest rank that is possible.",
)
STABLE_RANK = Metric("stable_rank", "spectrum", stable_rank, _ANY, "Squared Frobenius norm over squared spectral norm.")
PARTICIPATION_RATIO = Metric(
    "participation_ratio", "spectrum", participation_ratio, _ANY, "Number of directions that share the energy."
)
SRANK = Metric("srank", "spectrum", srank, _ANY, "Singular values that make up 99 % of their sum.")
NUMERICAL_RANK = Metric(
    "numerical_rank", "spectrum", numerical_rank, (0.0, float("inf")), "Singular values above rounding error."
)
