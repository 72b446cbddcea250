"""The band of intervals around a mean curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from picolm.experiments.statistics.bands import Band
from picolm.report.markup import label
from picolm.report.series import spread

_MOST = 1000
"""Places of an edge: more would make a page heavy and look the same."""


@dataclass(frozen=True)
class Ribbon:
    """What lies between the lower and the upper ends of intervals along an axis.

    Attributes:
        name: of the curve it belongs to; escaped here.
        x: places.
        low: lower ends.
        high: upper ends.
        colour: name of a CSS variable, which is made faint.
        lower: whether it stands in the lower of two panels.
    """

    name: str
    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    colour: str
    lower: bool = False

    @classmethod
    def of(cls, band: Band, name: str, colour: str, *, lower: bool = False) -> Ribbon | None:
        """The ribbon of a band; None of one seed, which has no intervals."""
        if band.low is None or band.high is None:
            return None
        kept = spread(range(len(band.x)), _MOST)
        x, low, high = (ends[kept].tolist() for ends in (band.x, band.low, band.high))
        return cls(name, x, low, high, colour, lower)

    def as_plotly(self) -> dict[str, Any]:
        """Return the trace, light: values to 6 digits; there along the upper ends, back along the lower ones."""
        return {
            "type": "scatter",
            "name": label(self.name),
            "mode": "lines",
            "x": [*self.x, *reversed(self.x)],
            "y": [float(f"{value:.6g}") for value in (*self.high, *reversed(self.low))],
            "line": {"width": 0},
            "fill": "toself",
            "colour": self.colour,
            "hoverinfo": "skip",
            "showlegend": False,
            "legendgroup": label(self.name),
            **({"yaxis": "y2"} if self.lower else {}),
        }
