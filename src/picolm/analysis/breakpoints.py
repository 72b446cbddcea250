"""Whether a curve bends: two straight segments against one, and where the break is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picolm.analysis.convergence import FloatArray, curve
from picolm.errors import PicoLMError
from picolm.randomness import generator

# Steps at each end that are not tried: a segment through two points fits anything.
_EDGE = 2


@dataclass(frozen=True, slots=True)
class Bend:
    """The best fit of two segments that meet, y = a + b x + c max(x - at, 0), beside that of one.

    Attributes:
        at: the breakpoint, one of the curve's steps.
        low: the lower end of its 95 % interval.
        high: the upper end.
        slopes: before and after it.
        changes: of the fit, from the first step to the breakpoint and from there to the last.
        evidence: BIC of one segment less BIC of two, from -2 ln N up: above 0 two are better, above 10 clearly.
    """

    at: float
    low: float
    high: float
    slopes: tuple[float, float]
    changes: tuple[float, float]
    evidence: float

    def rises_then_falls(self, *, noise: float) -> bool:
        """Whether the curve went up and came down again, each by more than twice the noise, and bent at all.

        Args:
            noise: standard deviation between seeds of the same curve.
        """
        return self.evidence > 0 and self.changes[0] > 2 * noise and self.changes[1] < -2 * noise


def bend_of(
    steps: npt.ArrayLike, values: npt.ArrayLike, *, draws: int = 1000, block: int | None = None, seed: int = 0
) -> Bend:
    """Fit one and two straight segments by least squares and compare them by BIC.

    BIC = N ln(RSS / N) + k ln N with k = 3 (line, variance) and 5 (slope and breakpoint more). Every step but the
    two at each end is tried as the breakpoint, so its resolution is that of the measurements. Whether a curve bends
    depends on its axis: give logarithms of steps where the question is about them.

    The interval is the 2.5 and 97.5 % quantile over refits to the fit plus its residuals, which are drawn anew in
    blocks of neighbours, because residuals of a training curve are alike from step to step. It takes for granted that
    there is a breakpoint: look at `evidence` first. One curve says nothing of other seeds.

    Args:
        steps: ascending [N], N >= 8.
        values: [N], for example smoothed.
        draws: refits for the interval.
        block: residuals that stay together; None: N^(1/3), rounded up.
        seed: of the draws.

    Returns:
        The fit.

    Raises:
        PicoLMError: it is no curve, or has fewer than eight points; no draws; or a block that is not from 1 to N.

    Source:
        Breakpoint regression: Muggeo 2003; bootstrap in blocks: Kuensch 1989. O(draws N^2).
    """
    x, y = curve(steps, values)
    n = len(x)
    block = int(np.ceil(n ** (1 / 3))) if block is None else block
    if n < 8 or draws < 1 or not 1 <= block <= n:
        raise PicoLMError(
            "a breakpoint needs eight points or more, one draw or more and blocks of 1 to all points, "
            f"not {n} points, {draws} draws and blocks of {block}"
        )
    # So that no square vanishes or overflows.
    scale = np.abs(y).max() or 1.0
    y = y / scale
    bases = _bases(x)
    best = int(_best(bases, y[None])[0])
    fitted = bases[best] @ (bases[best].T @ y)
    residuals = y - fitted
    drawn = _resampled(residuals - residuals.mean(), draws, block, seed)
    low, high = np.quantile(x[_best(bases, fitted + drawn) + _EDGE], [0.025, 0.975])
    at = best + _EDGE
    changes = (float(scale * (fitted[at] - fitted[0])), float(scale * (fitted[-1] - fitted[at])))
    return Bend(
        at=float(x[at]),
        low=float(low),
        high=float(high),
        slopes=(changes[0] / float(x[at] - x[0]), changes[1] / float(x[-1] - x[at])),
        changes=changes,
        evidence=_evidence(_residuals_of_a_line(x, y), residuals),
    )


def _residuals_of_a_line(x: FloatArray, y: FloatArray) -> FloatArray:
    basis = np.linalg.qr(np.stack([np.ones_like(x), x - x.mean()], axis=1))[0]
    return np.asarray(y - basis @ (basis.T @ y))


def _evidence(one: FloatArray, two: FloatArray) -> float:
    """BIC of one segment less that of two, from their residuals [N] to values of size 1."""
    n = len(one)
    # What is left of a perfect fit is rounding, which must not count as evidence.
    rss_one, rss_two = (max(float(left @ left), 1e-24 * n) for left in (one, two))
    return float(n * np.log(rss_one / rss_two) - 2 * np.log(n))


def _bases(x: FloatArray) -> FloatArray:
    """For each breakpoint that is tried, an orthonormal basis of the curves with two segments [N - 4, N, 3]."""
    unit = (x - x[0]) / (x[-1] - x[0])
    designs = [np.stack([np.ones_like(unit), unit, np.maximum(unit - at, 0.0)], axis=1) for at in unit[_EDGE:-_EDGE]]
    return np.asarray(np.linalg.qr(np.stack(designs))[0])


def _best(bases: FloatArray, curves: FloatArray) -> npt.NDArray[np.int64]:
    """For each curve [C, N], which breakpoint explains the most [C]."""
    explained = np.stack([np.square(curves @ basis).sum(axis=1) for basis in bases])
    return np.asarray(explained.argmax(axis=0), dtype=np.int64)


def _resampled(residuals: FloatArray, draws: int, block: int, seed: int) -> FloatArray:
    """Residuals drawn anew in blocks that may overlap [draws, N]."""
    n = len(residuals)
    blocks = -(-n // block)
    starts = generator(seed, "breakpoint").integers(0, n - block + 1, (draws, blocks))
    places = (starts[..., None] + np.arange(block)).reshape(draws, blocks * block)[:, :n]
    return np.asarray(residuals[places])
