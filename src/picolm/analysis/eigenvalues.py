"""Eigenvalues of a symmetric matrix that is known by its products alone, such as the Hessian of a loss.

P rows and columns; vectors are flat, [P]. Draws are keyed: the same seed gives the same vectors on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from picolm.errors import PicoLMError
from picolm.randomness import generator


@dataclass(frozen=True, slots=True)
class Operator:
    """A symmetric matrix [P, P] that is known by its products.

    Attributes:
        product: v [P] -> A v [P].
        like: a vector [P] whose length, precision and device all vectors have.
    """

    product: Callable[[Tensor], Tensor]
    like: Tensor

    @property
    def size(self) -> int:
        """P."""
        return len(self.like)

    def scaled(self, scales: Tensor) -> Operator:
        """D A D with the diagonal D = scales [P].

        With scales (sqrt(v) + eps)^(-1/2), v Adam's second moments after bias correction, it has the eigenvalues of the
        preconditioned Hessian. Training settles where the largest is near 38 / learning rate (with momentum 0.9), as
        under gradient descent that of the Hessian itself is near 2 / learning rate (Cohen et al. 2022, arXiv
        2207.14484).
        """
        return Operator(lambda vector: scales * self.product(scales * vector), self.like)


@dataclass(frozen=True, slots=True)
class Ritz:
    """What Lanczos found: approximate eigenvalues (Ritz values) of a symmetric matrix.

    Attributes:
        values: [m], float64, largest first.
        residuals: [m]: an eigenvalue lies within this distance of each value.
        weights: [m], adding up to 1: the share of the start vector's square in each of their directions.
    """

    values: Tensor
    residuals: Tensor
    weights: Tensor


def lanczos(operator: Operator, *, iterations: int, seed: int, start: int = 0) -> Ritz:
    """Run Lanczos from a random vector, with full reorthogonalisation.

    The largest and the smallest values are found first: 20 to 50 iterations settle the largest of a Hessian to some
    digits, which its residual tells. An eigenvalue that occurs several times is found once. It ends early where the
    start vector has no further directions; then all values are exact.

    Args:
        operator: the matrix.
        iterations: m, at most; P are enough.
        seed: of the start vectors, which are normal.
        start: which of the seed's start vectors.

    Returns:
        m values. It takes m products and holds m vectors [P].

    Raises:
        PicoLMError: there are no iterations, or a product is not finite.

    Source:
        Golub & Van Loan, Matrix Computations, 10.1; for networks: Ghorbani et al. 2019 (arXiv 1901.10159).
    """
    if iterations < 1:
        raise PicoLMError("Lanczos needs one iteration or more")
    first = _normal(operator, seed, start)
    basis, diagonal, beside = [first / _length(first)], list[float](), list[float]()
    while True:
        vector = operator.product(basis[-1])
        if not vector.isfinite().all():
            raise PicoLMError(
                "a product with the Hessian is not finite: the loss has no curvature here, or float32 overflows"
            )
        diagonal.append(_dot(vector, basis[-1]))
        size = _length(vector)
        # Once leaves what rounding brings back; twice is enough (Parlett 1998, The Symmetric Eigenvalue Problem, 6.9).
        for _ in range(2):
            for known in basis:
                vector = vector - _dot(vector, known) * known
        beside.append(_length(vector))
        exhausted = beside[-1] <= 10 * torch.finfo(vector.dtype).eps * size
        if exhausted or len(basis) >= min(iterations, operator.size):
            break
        basis.append(vector / beside[-1])
    off = torch.tensor(beside[:-1], dtype=torch.float64)
    tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    residuals = beside[-1] * vectors[-1].abs()
    return Ritz(values.flip(0), residuals.flip(0), vectors[0].square().flip(0))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over random draws, with its standard error."""

    value: float
    se: float
    draws: int


def trace(operator: Operator, *, draws: int, seed: int) -> Estimate:
    """Estimate the trace from random signs v (Hutchinson): the mean of v^T A v.

    The variance of a draw is 2 (|A|_F^2 - sum_i A_ii^2), so for a diagonal matrix each is exact. Take draws until the
    standard error is small enough.

    Args:
        operator: the matrix.
        draws: how many, 2 or more; a product each. Draw i is the same however many there are.
        seed: of the signs.

    Raises:
        PicoLMError: one draw has no standard error.

    Source:
        Hutchinson 1990; for networks: Yao et al. 2020 (PyHessian, arXiv 1912.07145).
    """
    if draws < 2:
        raise PicoLMError("a trace with a standard error needs two draws or more")
    signs = (_signs(operator, seed, number) for number in range(draws))
    found = torch.tensor([_dot(sign, operator.product(sign)) for sign in signs], dtype=torch.float64)
    return Estimate(float(found.mean()), float(found.std() / draws**0.5), draws)


@dataclass(frozen=True, slots=True)
class Density:
    """An estimate of how a matrix's eigenvalues are spread.

    Attributes:
        values: [k, m], float64: the Ritz values of each of k draws.
        weights: [k, m]: their weights, adding up to 1 in each draw (0 where a draw ended early).
    """

    values: Tensor
    weights: Tensor

    def moment(self, power: int) -> float:
        """Mean of the eigenvalues' power, which estimates tr A^power / P."""
        return float((self.weights * self.values**power).sum(1).mean())

    def at(self, points: Tensor, *, width: float) -> Tensor:
        """The density [N] at points [N], each value widened to a normal distribution of this standard deviation."""
        z = (points.double()[:, None, None] - self.values) / width
        bells = torch.exp(-z.square() / 2) / (width * (2 * torch.pi) ** 0.5)
        density: Tensor = (self.weights * bells).sum(2).mean(1)
        return density


def spectral_density(operator: Operator, *, draws: int, iterations: int, seed: int) -> Density:
    """Estimate the density of all eigenvalues by stochastic Lanczos quadrature.

    Each draw's Ritz values and weights reproduce v^T A^j v exactly up to j = 2 m - 1; their mean over random v, that of
    all eigenvalues.

    Args:
        operator: the matrix.
        draws: k random start vectors; 10 do for large P.
        iterations: m of each; some 80 to resolve more than the outliers.
        seed: of the start vectors.

    Raises:
        PicoLMError: there are no draws, or as `lanczos`.

    Source:
        Ghorbani et al. 2019 (arXiv 1901.10159). k m products; m vectors are held.
    """
    if draws < 1:
        raise PicoLMError("a density needs one draw or more")
    found = [lanczos(operator, iterations=iterations, seed=seed, start=number) for number in range(draws)]
    pad = torch.nn.utils.rnn.pad_sequence
    return Density(
        values=pad([ritz.values for ritz in found], batch_first=True),
        weights=pad([ritz.weights for ritz in found], batch_first=True),
    )


def _normal(operator: Operator, seed: int, number: int) -> Tensor:
    drawn = generator(seed, "lanczos", number).standard_normal(operator.size)
    return torch.from_numpy(drawn).to(operator.like)


def _signs(operator: Operator, seed: int, number: int) -> Tensor:
    drawn = generator(seed, "hutchinson", number).integers(0, 2, operator.size, dtype="int8")
    return torch.from_numpy(2 * drawn - 1).to(operator.like)


def _dot(first: Tensor, second: Tensor) -> float:
    return float((first * second).sum(dtype=torch.float64))


def _length(vector: Tensor) -> float:
    return math.sqrt(_dot(vector, vector))
