"""Ordinary least squares, and how well it foretells items that it has not seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from picolm.errors import PicoLMError
from picolm.evaluation.likelihood import FloatArray


class Regression(NamedTuple):
    """y = intercept + coefficients X."""

    intercept: float
    coefficients: FloatArray
    """[P]"""
    r_squared: float
    deviation: float
    """Mean absolute deviation of each item from what a regression over all others foretells, in units of y."""
    n: int


def regress(y: FloatArray, x: FloatArray) -> Regression:
    """Fit, and leave each item out once.

    The error of a regression that leaves item i out is e_i / (1 - h_ii), with its residual e_i in the whole one and
    h_ii on the diagonal of the hat matrix (Allen 1974), so that one fit is enough.

    Args:
        y: of each item [N].
        x: predictors [N, P].

    Raises:
        PicoLMError: there are too few items, a predictor follows from the others, or one item alone decides about one.
    """
    design = np.column_stack([np.ones(len(y)), x])
    n, parameters = design.shape
    if n < parameters + 2:
        raise PicoLMError(f"a regression on {parameters - 1} predictors needs {parameters + 2} items; there are {n}")
    # Columns of very different size would hide from the rank what follows from others.
    size = np.linalg.norm(design, axis=0)
    q, r = np.linalg.qr(design / np.where(size > 0, size, 1.0))
    if np.abs(np.diag(r)).min() < 1e-10:
        raise PicoLMError("a predictor of the regression is constant, or follows from the others: leave it out")
    weights = np.linalg.solve(r, q.T @ y) / size
    residuals, leverage = y - design @ weights, np.square(q).sum(axis=1)
    if leverage.max() > 1 - 1e-10:
        raise PicoLMError("one item alone decides about a predictor of the regression: leave that predictor out")
    total = float(np.square(y - y.mean()).sum())
    return Regression(
        intercept=float(weights[0]),
        coefficients=np.asarray(weights[1:]),
        r_squared=1 - float(residuals @ residuals) / total if total > 0 else float("nan"),
        deviation=float(np.abs(residuals / (1 - leverage)).mean()),
        n=n,
    )
