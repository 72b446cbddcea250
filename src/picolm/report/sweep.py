"""Runs of a sweep, which claims nothing: best first, and a row of dots for each value of a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picolm.experiments.findings import Findings, RunRecord
from picolm.report.dots import dot_axes
from picolm.report.experiment_runs import value_words
from picolm.report.figures import Figure, View
from picolm.report.markup import Markup, data_table, element, label
from picolm.report.registration import written


@dataclass(frozen=True)
class Points:
    """Runs as dots.

    Attributes:
        names: of the runs; escaped here.
        values: of a number.
        heights: the row of each, from the top.
    """

    names: Sequence[str]
    values: Sequence[float]
    heights: Sequence[int]

    def as_plotly(self) -> dict[str, Any]:
        """Return the trace, light: values to 6 digits."""
        return {
            "type": "scatter",
            "mode": "markers",
            "x": [float(f"{value:.6g}") for value in self.values],
            "y": list(self.heights),
            "customdata": [label(name) for name in self.names],
            "marker": {"size": 8},
            "colour": "series-1",
            "hovertemplate": "%{customdata}<br><b>%{x:.5~g}</b><extra></extra>",
        }


def swept(findings: Findings) -> dict[str, dict[str, object]]:
    """By arm, or arm and size, the values of all keys in which arms differ."""
    baseline = {key: pair[0] for keys in findings.differs.values() for key, pair in keys.items()}
    found: dict[str, dict[str, object]] = {}
    for where in dict.fromkeys(place(run) for run in findings.runs):
        own = _differs(findings, where)
        found[where] = {key: own[key][1] if key in own else value for key, value in baseline.items()}
    return found


def place(run: RunRecord) -> str:
    """Where its arm stands in `Findings.differs`."""
    return f"{run.arm}.{run.size}" if run.size else run.arm


def _differs(findings: Findings, where: str) -> Mapping[str, tuple[object, object]]:
    # Where sizes are alike in what arms differ in, it may be said of the arm alone.
    return findings.differs.get(where) or findings.differs.get(where.partition(".")[0]) or {}


def sweep_table(findings: Findings) -> Markup:
    """Every run with its values of the swept keys, the lowest of the first number on top; those without one last."""
    words = _words(findings.runs)
    values = swept(findings)
    keys = list(dict.fromkeys(key for own in values.values() for key in own))
    first = words[0] if words else ""
    order = sorted(findings.runs, key=lambda run: (first not in run.values, _value(run, first)))
    rows = [
        [
            run.name,
            run.size,
            *(written(values[place(run)][key]) for key in keys),
            *(value_words(run.values.get(w)) for w in words),
        ]
        for run in order
    ]
    if not rows:
        return Markup()
    head = [
        *("Run", "Size"),
        *(element("code", key) for key in keys),
        *(element("span", word, class_="measure") for word in words),
    ]
    if not any(run.size for run in findings.runs):
        head, rows = [head[0], *head[2:]], [[row[0], *row[2:]] for row in rows]
    return data_table(head, rows, range(len(head) - len(words), len(head)))


def sweep_figures(findings: Findings) -> list[Figure]:
    """For each key a figure, with a view for each number: a row for each value, a dot for each run."""
    values, words = swept(findings), _words(findings.runs)
    keys = list(dict.fromkeys(key for own in values.values() for key in own))
    figures = []
    for number, key in enumerate(keys):
        levels = sorted({written(own[key]): own[key] for own in values.values()}.items(), key=_order)
        rows = [name for name, _ in levels]
        views = [_view(findings.runs, values, key, rows, word) for word in words]
        if views:
            figures.append(Figure(f"sweep-{number}", key, views, "A dot for each run."))
    return figures


def _view(
    runs: Sequence[RunRecord], values: Mapping[str, Mapping[str, object]], key: str, rows: Sequence[str], word: str
) -> View:
    there = [run for run in runs if word in run.values]
    heights = [rows.index(written(values[place(run)][key])) for run in there]
    points = Points([run.name for run in there], [run.values[word].value for run in there], heights)
    across, up = dot_axes(label(word), rows)
    return View(word, [points], up, across)


def _words(runs: Sequence[RunRecord]) -> list[str]:
    return list(dict.fromkeys(word for run in runs for word in run.values))


def _value(run: RunRecord, word: str) -> float:
    return run.values[word].value if word in run.values else 0.0


def _order(level: tuple[str, object]) -> tuple[bool, float, str]:
    """Numbers by size, then words."""
    name, value = level
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return not is_number, float(value) if isinstance(value, int | float) else 0.0, name
