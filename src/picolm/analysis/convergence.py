"""When a curve has converged: three definitions by name, each with the steps between which the answer lies.

A curve is values [N] at ascending steps [N], measured now and then. What happens between two measurements is unknown,
so every answer names the two that it lies between: with measurements every 500 steps, differences of 500 mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picolm.errors import PicoLMError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Crossing:
    """When something came true of a curve.

    Attributes:
        step: interpolated between the two measurements, or NaN where it never came true (censored).
        after: the last measurement at which it was not true yet; -inf where it was true from the first on.
        by: the first measurement at which it was true; inf where it never was.
    """

    step: float
    after: float
    by: float

    @property
    def reached(self) -> bool:
        """Whether it came true at all."""
        return self.by < np.inf


def first_reached(steps: npt.ArrayLike, values: npt.ArrayLike, *, level: float) -> Crossing:
    """When a curve first reaches a level, rising or falling to it from its first value.

    Args:
        steps: ascending [N].
        values: [N].
        level: in the values' unit. A curve that begins at the level has reached it.

    Returns:
        The first crossing, linearly interpolated.

    Raises:
        PicoLMError: it is no curve: other lengths, steps that do not ascend, values that are not finite.
    """
    x, y = curve(steps, values)
    # How far each value still is from the level, above 0 while it is not reached.
    missing = (level - y) * np.sign(level - y[0])
    there = missing <= 0
    return _crossing(x, missing, int(there.argmax()) if there.any() else None)


def settled_above(steps: npt.ArrayLike, values: npt.ArrayLike, *, level: float) -> Crossing:
    """When a curve has come to stay at or above a level: the convergence step of a similarity to the final state.

    Args:
        steps: ascending [N].
        values: [N].
        level: for example 0.9 for a debiased CKA; say which.

    Returns:
        The last upward crossing; censored where the last value is below.

    Raises:
        PicoLMError: as `first_reached`.
    """
    x, y = curve(steps, values)
    return _crossing(x, level - y, _settled(y >= level))


def settled_within(steps: npt.ArrayLike, values: npt.ArrayLike, *, band: float, final: float | None = None) -> Crossing:
    """When a curve has come to stay within a band around its final value.

    With the last value as the final one, every curve settles, at the last step if nowhere before: a curve that still
    moves at its end looks as if it converged late, so look at where it would have gone. `final` may be the mean of the
    last few, of several seeds, or a known limit.

    Args:
        steps: ascending [N].
        values: [N].
        band: half its width, in the values' unit.
        final: the value in its middle; None: the last one.

    Returns:
        When it last came into the band; censored where the last value is outside.

    Raises:
        PicoLMError: as `first_reached`, or the band is below 0.
    """
    x, y = curve(steps, values)
    if band < 0:
        raise PicoLMError(f"a band is 0 or wider, not {band}")
    off = y - (y[-1] if final is None else final)
    index = _settled(np.abs(off) <= band)
    # It enters at the edge of the side it comes from, also where the next measurement is beyond the middle.
    side = 1.0 if index in (None, 0) else np.sign(off[index - 1])
    return _crossing(x, side * off - band, index)


def share_reached(steps: npt.ArrayLike, values: npt.ArrayLike, *, share: float = 0.9) -> Crossing:
    """When a curve has gone a share of the way from its first to its last value: t90 with 0.9.

    For a loss, the first step with L <= L_0 - share (L_0 - L_end). First and last value are single measurements: where
    they are noisy, smooth first.

    Args:
        steps: ascending [N].
        values: [N].
        share: above 0, at most 1.

    Returns:
        The first crossing. For exp(-t / tau) it is tau ln 10, of the way that was seen.

    Raises:
        PicoLMError: as `first_reached`, or the share is not in (0, 1].
    """
    x, y = curve(steps, values)
    if not 0 < share <= 1:
        raise PicoLMError(f"the share of the way must be above 0 and at most 1, not {share}")
    return first_reached(x, y, level=float(y[-1] if share == 1 else y[0] + share * (y[-1] - y[0])))


def mean_shortfall(steps: npt.ArrayLike, values: npt.ArrayLike, *, level: float = 1.0) -> float:
    """Mean distance of a curve below a level over its steps (trapezoids): convergence without a threshold.

    Args:
        steps: ascending [N], N >= 2.
        values: [N].
        level: 1 for similarities: the area above the curve, divided by its length.

    Returns:
        0 for a curve that is at the level all the time; below 0 for one above.

    Raises:
        PicoLMError: as `first_reached`, or there is one point.
    """
    x, y = curve(steps, values)
    if len(x) < 2:
        raise PicoLMError("an area needs two points or more")
    return float(np.trapezoid(level - y, x) / (x[-1] - x[0]))


def curve(steps: npt.ArrayLike, values: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Steps and values as float64 [N], if they are a curve.

    Raises:
        PicoLMError: other lengths, none, steps that do not ascend, values that are not finite.
    """
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise PicoLMError(f"a curve needs as many values as steps, and one or more, not {y.shape} and {x.shape}")
    if not (np.diff(x) > 0).all():
        raise PicoLMError("the steps of a curve must ascend, each once")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise PicoLMError("a curve needs finite steps and values: leave out the steps at which the value is not known")
    return x, y


def _settled(there: npt.NDArray[np.bool_]) -> int | None:
    """The first measurement from which on it is true; None where it is not at the last."""
    away = np.flatnonzero(~there)
    if not len(away):
        return 0
    return int(away[-1]) + 1 if there[-1] else None


def _crossing(x: FloatArray, missing: FloatArray, index: int | None) -> Crossing:
    """Where what is missing [N] passes 0 on its way to the measurement `index`."""
    if index is None:
        return Crossing(np.nan, float(x[-1]), np.inf)
    if index == 0:
        return Crossing(float(x[0]), -np.inf, float(x[0]))
    before, now = missing[index - 1], missing[index]
    step = x[index - 1] + (x[index] - x[index - 1]) * (before / (before - now))
    # Rounding must not carry it beyond the measurement at which it is known.
    return Crossing(float(min(step, x[index])), float(x[index - 1]), float(x[index]))
