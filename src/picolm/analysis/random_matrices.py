"""What noise of a shape gives: where initialisation begins, and what a number of a trained matrix is read against."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.rank import proportional_effective_rank
from picolm.analysis.spectrum import Matrix, product_spectrum, spectrum
from picolm.errors import PicoLMError
from picolm.randomness import generator

# Nodes of the integral, and singular values that a simulation draws: both leave errors below 0.001.
_NODES = 20_000
_DRAWN = 4096


@cache
def noise_per(m: int, n: int) -> float:
    """PER of an m x n matrix of independent entries of equal variance, for large m and n.

    With s^2 = 1 + gamma - 2 sqrt(gamma) cos(t), gamma = min / max of the sides, the law of Marchenko and Pastur gives t
    the density 2 sin^2(t) / (pi s^2) on [0, pi], and

        PER = exp(-E[(s / E[s]) ln(s / E[s])]).

    Square: 0.8050; 3 : 8: 0.9471; 1 : 4: 0.9662. From 256 rows on, draws differ from it by 0.003 at most.

    Args:
        m: rows.
        n: columns.

    Raises:
        PicoLMError: a side is not positive.

    Source:
        Marchenko & Pastur 1967; the substitution makes the integrand smooth, and the midpoint rule exact enough.
    """
    if min(m, n) < 1:
        raise PicoLMError(f"a matrix needs a row and a column at least, not {m} x {n}")
    gamma = min(m, n) / max(m, n)
    angles = (torch.arange(_NODES, dtype=torch.float64) + 0.5) * (torch.pi / _NODES)
    squares = 1 + gamma - 2 * gamma**0.5 * angles.cos()
    weights = 2 / _NODES * angles.sin().square() / squares
    singular = squares.sqrt()
    shares = singular / (weights @ singular)
    return float((-(weights @ (shares * shares.log()))).exp())


@cache
def noise_product_per(m: int, n: int, inner: int, *, seed: int = 0) -> float:
    """PER of a product of independent Gaussian matrices, m x inner and inner x n, by simulation.

    This is a circuit (OV, QK) at initialisation: a product of noise is not noise of its shape. Per head of Pythia 70M
    (512, 512, 64): 0.967; the layer's OV product (512, 512, 512): 0.669.

    Args:
        m: rows of the left factor.
        n: columns of the right factor.
        inner: columns of the left factor.
        seed: of the draws.

    Returns:
        The mean over as many draws as give 4,096 singular values, two at least.

    Raises:
        PicoLMError: a side is not positive.

    Source:
        Simulation. O((m + n) inner^2) a draw.
    """
    if min(m, n, inner) < 1:
        raise PicoLMError(f"a product needs a row and a column at least, not {m} x {inner} by {inner} x {n}")
    draws = max(2, _DRAWN // min(m, n, inner))
    total = 0.0
    for draw in range(draws):
        rng = generator(seed, "product of noise", m, n, inner, draw)
        left, right = rng.standard_normal((m, inner)), rng.standard_normal((inner, n))
        total += float(proportional_effective_rank(product_spectrum(torch.from_numpy(left), torch.from_numpy(right))))
    return total / draws


def per_over_noise(matrix: Matrix) -> Tensor:
    """PER over that of noise of the same shape, so that matrices of different shapes compare.

    Args:
        matrix: [..., m, n], or its spectrum, which knows whether it is that of a product.

    Returns:
        [...], float64, above 0, 1 for noise, and up to 1 over the PER of noise (of a square matrix 1.24). NaN for a
        zero matrix and one that is not finite.

    Source:
        `noise_per`, `noise_product_per`. One SVD, and for products one simulation a shape.
    """
    known = spectrum(matrix)
    noise = noise_per(*known.shape) if known.inner is None else noise_product_per(*known.shape, known.inner)
    return proportional_effective_rank(known) / noise


PER_OVER_NOISE = Metric(
    "per_over_noise",
    "spectrum",
    per_over_noise,
    (0.0, float("inf")),
    "Proportional effective rank over that of noise of the same shape; 1: as random.",
)
