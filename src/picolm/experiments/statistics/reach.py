"""When a curve first reaches a value: steps, tokens, FLOPs or seconds to a given loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from picolm.errors import PicoLMError, nearest
from picolm.experiments.statistics.curve import Curve

Way = Literal["down", "up"]


@dataclass(frozen=True, slots=True)
class Reach:
    """When a run got there.

    Attributes:
        x: where the value was reached; if it never was, where the run ended (it is censored there).
        reached: whether it was.
    """

    x: float
    reached: bool


def first_reach(curve: Curve, value: float, *, way: Way = "down") -> Reach:
    """Find where a curve first is at or past a value, by straight lines between points and without smoothing.

    A curve that begins past the value has reached it at its first point. Noise makes first crossings early, in
    both arms alike: measure on validation rather than on the loss of single batches.

    Args:
        curve: of one run.
        value: such as a loss.
        way: `down` to it (a loss) or `up` to it (an accuracy).

    Raises:
        PicoLMError: no such way, or the value is not finite.
    """
    if way not in ("down", "up"):
        raise PicoLMError(f"no way {way!r} to reach a value{nearest(way, ('down', 'up'))}")
    if not np.isfinite(value):
        raise PicoLMError(f"a value to reach must be finite, not {value}")
    left = curve.y - value if way == "down" else value - curve.y
    there = np.flatnonzero(left <= 0)
    if not len(there):
        return Reach(float(curve.x[-1]), reached=False)
    place = int(there[0])
    before = left[place - 1] if place else np.nan
    if not np.isfinite(before) or not np.isfinite(left[place]):
        return Reach(float(curve.x[place]), reached=True)
    share = before / (before - left[place])
    return Reach(float(curve.x[place - 1] + share * (curve.x[place] - curve.x[place - 1])), reached=True)
