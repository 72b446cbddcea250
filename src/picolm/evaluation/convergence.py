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
    assert len(steps) == len(values) > 0 and 0 < share <= 1 and (np.diff(steps) > 0).all()
    way = values[0] - (values[-1] if end is None else end)
    if way == 0 or not np.isfinite(way):
        return None
    done = (values[0] - values) / way
    reached = np.flatnonzero(done >= share)
    if not len(reached):
        return None
    # Never the first point, where nothing is done.
    around = slice(int(reached[0]) - 1, int(reached[0]) + 1)
    return float(np.interp(share, done[around], steps[around]))


def binned(losses: FloatArray, every: int) -> tuple[FloatArray, FloatArray]:
    """Means of the losses of `every` steps each, at the middle of their steps: batches are too noisy one by one.

    Args:
        losses: of each step's batch before its update, [S]: entry s is measured after s updates.
        every: steps of a bin; the last one may have fewer.

    Returns:
        Steps and means, two arrays [ceil(S / every)].
    """
    assert every >= 1
    begins = np.arange(0, len(losses), every)
    counts = np.diff(np.append(begins, len(losses)))
    return begins + (counts - 1) / 2, np.add.reduceat(losses, begins) / counts
