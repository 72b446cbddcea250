"""What the checkpoints of a run knew: curves over steps, and the newest figures as a table, task by task."""

from __future__ import annotations

from collections.abc import Sequence

from picolm.report import numbers
from picolm.report.figures import COLOURS, DASHES, Figure, Trace, View, steps_axis
from picolm.report.markup import Markup, data_table, element, join
from picolm.report.record import Line, Record
from picolm.report.series import Series, number

_CONTROLS = ("unigram", "length", "constant", "untrained")
_HEADLINES = ("accuracy", "f1", "loss", "bits_per_byte", "perplexity")
"""What is drawn first, where a task has it."""
_DETAILED = ("paradigm/",)
"""Groups that are too many for a page."""
_MOST_COLUMNS = 8


def evaluation_figures(record: Record) -> list[Figure]:
    """A figure for each task that was asked at two steps or more."""
    figures = []
    for place, task in enumerate(task_names(record)):
        rows = [row for row in record.evaluations if row["task"] == task and row["step"] is not None]
        if len({row["step"] for row in rows}) > 1:
            views = [view for metric in headline_metrics(rows) for view in _views(rows, metric)]
            figures.append(Figure(f"evaluation-{place}", task, views))
    return figures


def evaluation_tables(record: Record) -> Markup:
    """The newest figures of each task: a line for each subset, a column for each metric."""
    parts = []
    for task in task_names(record):
        rows = [row for row in record.evaluations if row["task"] == task]
        newest = max((row["step"] for row in rows if row["step"] is not None), default=None)
        own = [row for row in rows if row["step"] == newest]
        heading = task if newest is None else f"{task}, after step {numbers.whole(newest)}"
        parts.append(join((element("h3", heading), _table(own))))
    return join(parts)


def task_names(record: Record) -> list[str]:
    """The tasks that the run was asked."""
    return list(dict.fromkeys(row["task"] for row in record.evaluations))


def headline_metrics(rows: Sequence[Line]) -> list[str]:
    """The metrics of a task that are drawn."""
    there = list(dict.fromkeys(row["metric"] for row in rows))
    return [name for name in _HEADLINES if name in there] or there[:1]


def _views(rows: Sequence[Line], metric: str) -> list[View]:
    """The metric over everything with what it is compared with, and by the larger groups."""
    groups = list(dict.fromkeys(row["subset"] for row in rows if row["metric"] == metric))
    kinds = dict.fromkeys(group.partition("/")[0] for group in groups if not group.startswith(_DETAILED))
    name = metric.replace("_", " ")
    if len(kinds) == len(groups):
        # No group is a part of a kind: they are all the task's own subsets, such as test sets.
        return [_view(name, [_curve(rows, group, metric, place) for place, group in enumerate(groups)], metric)]
    views = []
    for kind in kinds:
        own = [group for group in groups if group.partition("/")[0] == kind]
        traces = [_curve(rows, group, metric, place) for place, group in enumerate(own)]
        if kind == "all":
            traces += _controls(rows, metric)
        views.append(_view(name if kind == "all" else f"{name} by {kind}", traces, metric))
    return views


def _view(title: str, traces: list[Trace], metric: str) -> View:
    unit = "%" if metric in ("accuracy", "f1") else metric.replace("_", " ")
    return View(title, traces, {"title": {"text": unit}}, steps_axis(traces))


def _curve(rows: Sequence[Line], subset: str, metric: str, place: int) -> Trace:
    own = [row for row in rows if row["subset"] == subset and row["metric"] == metric]
    colour, dash = f"series-{place % COLOURS + 1}", DASHES[place // COLOURS % len(DASHES)]
    name = subset.partition("/")[2] or subset
    return Trace(name, evaluated_series(own), colour, ".4~g", dash=dash, marked=True)


def _controls(rows: Sequence[Line], metric: str) -> list[Trace]:
    found = []
    for place, name in enumerate(_CONTROLS, start=1):
        own = [row for row in rows if row["subset"] == "all" and row["metric"] == f"{metric}_{name}"]
        if own:
            found.append(
                Trace(name, evaluated_series(own), f"series-{place % COLOURS + 1}", ".4~g", width=1.2, dash="dot")
            )
    return found


def evaluated_series(rows: Sequence[Line]) -> Series:
    """The values of one metric of one subset, by step."""
    ordered = sorted(rows, key=lambda row: row["step"])
    return Series([row["step"] for row in ordered], [number(row["value"]) for row in ordered])


def _table(rows: Sequence[Line]) -> Markup:
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    subsets = [name for name in dict.fromkeys(row["subset"] for row in rows) if not name.startswith(_DETAILED)]
    by_place = {(row["subset"], row["metric"]): row for row in rows}
    # Metrics that most subsets have: a figure that only one has (a mean in another way) would leave a column empty.
    common = [name for name in metrics if 2 * sum((subset, name) in by_place for subset in subsets) >= len(subsets)]
    shown = [name for name in common if not name.startswith("ties_")][:_MOST_COLUMNS]
    body = [[subset, *(_cell(by_place.get((subset, name))) for name in shown)] for subset in subsets]
    return data_table(["", *(name.replace("_", " ") for name in shown)], body, range(1, len(shown) + 1))


def _cell(row: Line | None) -> str:
    if row is None or (value := number(row["value"])) is None:
        return ""
    error = number(row["se"])
    return f"{value:,.4g}" if error is None else f"{value:,.4g} ± {error:.2g}"
