"""Runs of a sweep, which claims nothing: best first, and a row of dots for each value of a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picolm.experiments.findings import Findings, RunRecord
from picolm.experiments.ranking import Ranked, Ranking, rankings
from picolm.report.dots import dot_axes
from picolm.report.figures import Figure, View
from picolm.report.markup import Markup, data_table, element, label
from picolm.report.numbers import exact
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


def ranking_tables(findings: Findings) -> list[Markup]:
    """The points, best first, size by size: means over seeds, and how far each is behind the best."""
    found = []
    for ranking in rankings(findings.plan, findings.runs):
        keys = list(dict.fromkeys(key for one in ranking.points for key in one.point))
        rows = [_ranked(one, ranking, keys) for one in ranking.points]
        if rows:
            head = [
                "Point",
                *(element("code", key) for key in keys),
                _mean_of(ranking.measure),
                "Sd",
                "Seeds",
                "Behind",
            ]
            title = element("h3", f"Size {ranking.size}") if ranking.size else Markup()
            table = data_table(head, rows, range(1 + len(keys), len(head)))
            found += [title, table, element("p", _remark(ranking), class_="note")]
    return found


def _mean_of(measure: str) -> Markup:
    return element("span", f"Mean {measure}", class_="measure")


def _ranked(one: Ranked, ranking: Ranking, keys: Sequence[str]) -> list[str]:
    behind = "best" if ranking.best is one else "" if one.behind is None else exact(one.behind, 4, sign=True)
    if one.interval is not None:
        behind += f" ({exact(one.interval.low, 4, sign=True)} to {exact(one.interval.high, 4, sign=True)})"
    lacks = "".join(f", {n} {what}" for n, what in ((one.failed, "failed"), (one.censored, "not reached")) if n)
    numbers = ["" if value is None else exact(value, 4) for value in (one.mean, one.sd)]
    return [
        one.arm,
        *(written(one.point[key]) if key in one.point else "" for key in keys),
        *numbers,
        f"{one.n} of {one.n_planned}{lacks}",
        behind,
    ]


def _remark(ranking: Ranking) -> str:
    if ranking.best is None:
        return "No point has a number of every seed yet."
    said = f"Best is the {ranking.choose} {ranking.measure}. "
    if ranking.as_good:
        said += f"Seeds do not tell {ranking.best.arm} from {', '.join(ranking.as_good)}. "
    return said + "On other seeds the best of many is a little worse than here; intervals are not corrected for it."


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


def _order(level: tuple[str, object]) -> tuple[bool, float, str]:
    """Numbers by size, then words."""
    name, value = level
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return not is_number, float(value) if isinstance(value, int | float) else 0.0, name
