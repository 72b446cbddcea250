"""A learning curve: one number of one run against steps, tokens, FLOPs or seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picolm.errors import PicoLMError
from picolm.experiments.statistics.seeds import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Points of a curve, straight between them.

    Attributes:
        x: ascending [N]: steps, tokens, FLOPs or seconds.
        y: the value there [N]; what is not finite is a run that diverged.
    """

    x: FloatArray
    y: FloatArray

    @classmethod
    def of(cls, x: npt.ArrayLike, y: npt.ArrayLike) -> Curve:
        """Check points and make a curve of them.

        Raises:
            PicoLMError: no points, x not ascending or not finite, or not as many y as x.
        """
        places, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if places.ndim != 1 or places.shape != values.shape or not len(places):
            raise PicoLMError(f"a curve needs as many values as places, not {values.shape} at {places.shape}")
        if not np.isfinite(places).all() or not (np.diff(places) > 0).all():
            raise PicoLMError("the places of a curve must be finite and ascending, each once")
        return cls(places, values)

    def at(self, x: FloatArray) -> FloatArray:
        """Values [M] at places [M], by straight lines between points.

        Raises:
            PicoLMError: a place lies outside the curve.
        """
        if len(x) and not self.x[0] <= x.min() <= x.max() <= self.x[-1]:
            raise PicoLMError(
                f"a curve from {self.x[0]:g} to {self.x[-1]:g} has no value from {x.min():g} to {x.max():g}"
            )
        return np.asarray(np.interp(x, self.x, self.y))
