"""Heat maps as data: colours that the colour-blind tell apart, logarithmic where values span decades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from picolm.report.markup import label

_DECADES = 1000
"""From this ratio of the largest to the smallest on, colours are logarithmic."""


@dataclass(frozen=True)
class HeatMap:
    """A value for each row and column.

    Attributes:
        name: what the values are; escaped here.
        columns: names from left to right.
        rows: names from the bottom up.
        values: [rows][columns]; None where there is none, which stays empty.
        column: what a column is (`step`).
        row: what a row is (`layer`).
        limits: of the colours; None: those of the values.
        diverging: whether 0 is a middle, in colours of which each side has its own.
        square: whether cells are as high as wide, the first row on top, as matrices are written.
        decades: whether colours stand for logarithms; None: where positive values span three decades.
        title: stands over the map where several are side by side.
        runs: places, among the runs of a page, of those of which it tells; it is shown while all of these are.
        alone: whether it is shown only while these are the only ones.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[str]
    values: Sequence[Sequence[float | None]]
    column: str = "step"
    row: str = "layer"
    limits: tuple[float, float] | None = None
    diverging: bool = False
    square: bool = False
    decades: bool | None = None
    title: str = ""
    runs: tuple[int, ...] = ()
    alone: bool = False

    @cached_property
    def _there(self) -> list[float]:
        return [value for row in self.values for value in row if value is not None]

    @property
    def logarithmic(self) -> bool:
        """Whether colours stand for logarithms."""
        if self.decades is not None:
            return self.decades
        there = self._there
        return bool(there) and not self.diverging and min(there) > 0 and max(there) / min(there) >= _DECADES

    @property
    def colours(self) -> str:
        """The colour map, by the name that it has everywhere."""
        return "RdBu" if self.diverging else "Viridis"

    @property
    def bounds(self) -> tuple[float, float]:
        """The values of the first and the last colour."""
        if self.limits is not None:
            return self.limits
        low, high = min(self._there, default=0.0), max(self._there, default=1.0)
        if self.diverging and self.logarithmic:
            # Ratios: 1 is the middle, and half is as far from it as double.
            most = max((abs(math.log10(value)) for value in self._there), default=0.0) or 1.0
            return 10.0**-most, 10.0**most
        if self.diverging:
            high = max(abs(low), abs(high)) or 1.0
            return -high, high
        return low, high

    @property
    def _ticks(self) -> list[float]:
        """What a logarithmic scale of colours names."""
        low, high = self.bounds
        if self.diverging:
            return [low, 1.0, high]
        return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]

    def as_plotly(self) -> dict[str, Any]:
        """Return the trace, light: values to 6 digits."""
        values = [[None if value is None else float(f"{value:.6g}") for value in row] for row in self.values]
        low, high = self.bounds
        over = f"{label(self.title)}<br>" if self.title else ""
        drawn: dict[str, Any] = {
            "type": "heatmap",
            "name": label(self.name),
            "x": [label(column) for column in self.columns],
            "y": [label(row) for row in self.rows],
            "z": values,
            "zmin": low,
            "zmax": high,
            "colorscale": self.colours,
            "colorbar": {},
            "hoverongaps": False,
            "hovertemplate": f"{over}{self.column} %{{x}}<br>{self.row} %{{y}}<br><b>%{{z:.6~g}}</b><extra></extra>",
            **({"title": label(self.title)} if self.title else {}),
            **({"runs": list(self.runs)} if self.runs else {}),
            **({"alone": True} if self.alone else {}),
        }
        if self.logarithmic:
            drawn |= {
                "z": [[None if value is None else math.log10(value) for value in row] for row in values],
                "customdata": values,
                "zmin": math.log10(low),
                "zmax": math.log10(high),
                "colorbar": {
                    "tickvals": [math.log10(tick) for tick in self._ticks],
                    "ticktext": [f"{tick:.3g}" if self.diverging else f"{tick:g}" for tick in self._ticks],
                },
                "hovertemplate": drawn["hovertemplate"].replace("{z:", "{customdata:"),
            }
        return drawn

    @property
    def axes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Plotly attributes of both axes, (x, y)."""
        across = {"type": "category", "title": {"text": self.column}}
        up: dict[str, Any] = {"type": "category", "title": {"text": self.row}}
        if self.square:
            up |= {"autorange": "reversed", "scaleanchor": "x", "constrain": "domain"}
            across |= {"constrain": "domain"}
        return across, up
