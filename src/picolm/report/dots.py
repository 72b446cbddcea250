"""Values of several runs in the same rows: a dot for each run, with its standard error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from picolm.report.markup import label

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
"""By run: where colours are not told apart, shapes are."""


@dataclass(frozen=True)
class Dots:
    """What one run has of each row.

    Attributes:
        name: of the run; escaped here.
        rows: what the values are of, from the top down.
        values: one for each row; None where there is none.
        errors: their standard errors; None where there is none.
        run: its place among the runs of the page.
        colour: name of a CSS variable.
    """

    name: str
    rows: Sequence[str]
    values: Sequence[float | None]
    errors: Sequence[float | None]
    run: int
    colour: str

    @property
    def symbol(self) -> str:
        """The shape of its dots."""
        return SYMBOLS[self.run % len(SYMBOLS)]

    def as_plotly(self) -> dict[str, Any]:
        """Return the trace, light: values to 6 digits."""
        return {
            "type": "scatter",
            "name": label(self.name),
            "mode": "markers",
            "x": [None if value is None else float(f"{value:.6g}") for value in self.values],
            "y": [label(row) for row in self.rows],
            "error_x": {"array": [float(f"{error or 0.0:.6g}") for error in self.errors], "thickness": 1, "width": 0},
            "marker": {"symbol": self.symbol, "size": 8},
            "colour": self.colour,
            "hovertemplate": f"{label(self.name)}<br>%{{y}}<br><b>%{{x:.4~g}}</b><extra></extra>",
            "runs": [self.run],
        }


def dot_axes(quantity: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plotly attributes of the axes of dots, (x, y).

    Args:
        quantity: what the values are, escaped.
    """
    return {"title": {"text": quantity}}, {"type": "category", "autorange": "reversed", "title": {"text": ""}}
