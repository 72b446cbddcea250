"""How fast a curve comes near its end: the step at which nine tenths of the way are done (t90)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def step_at_share(
    steps: FloatArray, values: FloatArray, *, end: float | None = None, share: float = 0.9
) -> float | None:
    """The first step at which a curve has done a share of its way: t90 where that is 0.9.

    The level is L_0 - share (L_0 - L_end), whether the curve falls or rises; between two points it is a straight line.

    Args:
        steps: of the points, ascending, [P].
        values: of the curve, [P]; the first is L_0.
        end: L_end; None: the last value.
        share: of the way, above 0 and at most 1.

    Returns:
        A step, exact to the distance of two points; None where the level is never reached (censored), or where there is
        no way to go: L_end is L_0.
    """
    raise NotImplementedError


def binned(losses: FloatArray, every: int) -> tuple[FloatArray, FloatArray]:
    """Means of the losses of `every` steps each, at the middle of their steps: batches are too noisy one by one.

    Args:
        losses: of each step's batch before its update, [S]: entry s is measured after s updates.
        every: steps of a bin; the last one may have fewer.

    Returns:
        Steps and means, two arrays [ceil(S / every)].
    """
    raise NotImplementedError
