"""Least-squares fits of a sigmoid that falls from one level to another: learning curves over log10 steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from picolm.evaluation.likelihood import FloatArray

_MIDDLES, _SCALES = 81, 25
_ITERATIONS = 200
_STEEPEST, _FLATTEST = 1 / 200, 1.0
"""Scales that are tried, in lengths of the curve."""


class Sigmoid(NamedTuple):
    """y = lower + (upper - lower) / (1 + exp((x - middle) / scale)), with scale > 0."""

    upper: float
    """The level that the curve comes from; where it is below `lower`, the curve rises."""
    lower: float
    """The level that it goes to."""
    middle: float
    scale: float
    r_squared: float
    """1 - residual / total sum of squares; NaN where all y are equal."""

    def at(self, x: FloatArray) -> FloatArray:
        """Values at x."""
        return np.asarray(self.lower + (self.upper - self.lower) * _fall(x, self.middle, self.scale))

    def crossing(self, y: float) -> float:
        """The x at which a falling curve has a value between its levels."""
        assert self.lower < y < self.upper
        return self.middle + self.scale * float(np.log((self.upper - y) / (y - self.lower)))


def fit_sigmoid(x: FloatArray, y: FloatArray) -> Sigmoid:
    """Fit a sigmoid by least squares.

    For given middle and scale the levels are a linear regression (Golub & Pereyra 1973), so a grid of those two, from
    end to end of the curve and half its length beyond, shows where to begin; Levenberg's and Marquardt's method goes on
    from there. Scales are kept between 1/200 and the whole of the curve's length, middles within the grid.

    Args:
        x: ascending [S], such as log10 of steps; three different ones at least.
        y: values [S].
    """
    assert len(x) == len(y) and len(np.unique(x)) >= 3
    length = float(x[-1] - x[0])
    middles = np.linspace(x[0] - length / 2, x[-1] + length / 2, _MIDDLES)
    scales = np.geomspace(_STEEPEST * length, _FLATTEST * length, _SCALES)
    uppers, lowers, errors = _levels(x, y, middles, scales)
    row, column = np.unravel_index(int(errors.argmin()), errors.shape)
    begin = np.array([uppers[row, column], lowers[row, column], middles[row], np.log(scales[column])])
    low = np.array([-np.inf, -np.inf, middles[0], np.log(scales[0])])
    high = np.array([np.inf, np.inf, middles[-1], np.log(scales[-1])])
    upper, lower, middle, log_scale = _descended(x, y, begin, low, high).tolist()
    found = Sigmoid(upper, lower, middle, float(np.exp(log_scale)), float("nan"))
    error, total = np.square(y - found.at(x)).sum(), np.square(y - y.mean()).sum()
    return found._replace(r_squared=float(1 - error / total)) if total > 0 else found


def _descended(x: FloatArray, y: FloatArray, begin: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Least squares over (upper, lower, middle, log scale), which stay between `low` and `high`."""
    at, damping = begin, 1e-3
    residuals, slopes = _residuals(x, y, at)
    for _ in range(_ITERATIONS):
        normal = slopes.T @ slopes
        damped = normal + damping * np.diag(np.maximum(np.diag(normal), 1e-12))
        new = np.clip(at - np.linalg.solve(damped, slopes.T @ residuals), low, high)
        tried, new_slopes = _residuals(x, y, new)
        if tried @ tried < residuals @ residuals:
            at, residuals, slopes, damping = new, tried, new_slopes, damping / 3
        else:
            damping *= 4
        if damping > 1e12:
            break
    return at


def _residuals(x: FloatArray, y: FloatArray, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values of the curve less y [S], and their derivatives by the parameters [S, 4]."""
    upper, lower, middle, log_scale = at.tolist()
    scale = np.exp(log_scale)
    fall = _fall(x, middle, scale)
    slope = (upper - lower) * fall * (1 - fall)
    by = [fall, 1 - fall, slope / scale, slope * (x - middle) / scale]
    return lower + (upper - lower) * fall - y, np.stack(by, axis=-1)


def _levels(
    x: FloatArray, y: FloatArray, middles: FloatArray, scales: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Upper and lower level and sum of squared errors of the regression for each middle and scale, [M, K] each."""
    shape = _fall(x, middles[:, None, None], scales[:, None])
    mean, spread = shape.mean(-1), np.square(shape - shape.mean(-1, keepdims=True)).sum(-1)
    shared = ((shape - mean[..., None]) * (y - y.mean())).sum(-1)
    # A curve that lies wholly beyond the data is flat there: it explains nothing.
    span = np.where(spread > 1e-12, shared / np.maximum(spread, 1e-12), 0.0)
    lower = y.mean() - span * mean
    errors = np.square(y - lower[..., None] - span[..., None] * shape).sum(-1)
    return lower + span, lower, errors


def _fall(x: FloatArray, middle: FloatArray | float, scale: FloatArray | float) -> FloatArray:
    """From 1 to 0; tanh does not overflow."""
    return np.asarray(0.5 - 0.5 * np.tanh((x - middle) / (2 * scale)))
