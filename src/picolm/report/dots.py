"""Values of several runs in the same rows: a dot for each run, with its standard error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from picolm.report.markup import label

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
"""By run: where colours are not told apart, shapes are."""

_SPREAD = 0.6
"""Of a row's height, what the dots of all runs take."""


@dataclass(frozen=True)
class Dots:
    """What one run has of each row.

    Attributes:
        name: of the run; escaped here.
        rows: what the values are of, from the top down.
        values: one for each row; None where there is none.
        errors: their standard errors; None where there is none.
        run: its place among the runs of the page.
        shift: how far from the middle of a row its dots stand, in rows: equal values would hide each other.
        colour: name of a CSS variable.
        listed: whether it stands in the legend.
    """

    name: str
    rows: Sequence[str]
    values: Sequence[float | None]
    errors: Sequence[float | None]
    run: int
    shift: float
    colour: str
    listed: bool = True

    @property
    def symbol(self) -> str:
        """The shape of its dots."""
        return SYMBOLS[self.run % len(SYMBOLS)]

    @property
    def heights(self) -> list[float]:
        """Where the dots stand, counted in rows from the top."""
        return [round(place + self.shift, 4) for place in range(len(self.rows))]

    def as_plotly(self) -> dict[str, Any]:
        """Return the trace, light: values to 6 digits."""
        return {
            "type": "scatter",
            "name": label(self.name),
            "mode": "markers",
            "x": [None if value is None else float(f"{value:.6g}") for value in self.values],
            "y": self.heights,
            "customdata": [label(row) for row in self.rows],
            "error_x": {"array": [float(f"{error or 0.0:.6g}") for error in self.errors], "thickness": 1, "width": 0},
            "marker": {"symbol": self.symbol, "size": 8},
            "colour": self.colour,
            "hovertemplate": f"{label(self.name)}<br>%{{customdata}}<br><b>%{{x:.4~g}}</b><extra></extra>",
            "runs": [self.run],
            **({} if self.listed else {"showlegend": False}),
        }


def shift(run: int, n_runs: int) -> float:
    """How far from the middle of a row the dots of a run stand, in rows."""
    return _SPREAD * ((run + 0.5) / n_runs - 0.5)


def dot_axes(quantity: str, rows: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plotly attributes of the axes of dots, (x, y).

    Args:
        quantity: what the values are, escaped.
        rows: names of the rows, from the top down; escaped here.
    """
    up = {
        "title": {"text": ""},
        "tickmode": "array",
        "tickvals": list(range(len(rows))),
        "ticktext": [label(row) for row in rows],
        "range": [len(rows) - 0.5, -0.5],
    }
    return {"title": {"text": quantity}}, up
