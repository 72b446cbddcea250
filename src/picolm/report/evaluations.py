"""What the checkpoints of a run knew: curves over steps, and the newest figures as a table, task by task."""

from __future__ import annotations

from collections.abc import Sequence

from picolm.report import numbers
from picolm.report.dots import Dots, dot_axes, shift
from picolm.report.figures import COLOURS, DASHES, Figure, Trace, View, steps_axis
from picolm.report.markup import Markup, data_table, element, join, label
from picolm.report.overlay import overlaid, titles
from picolm.report.record import Line, Record
from picolm.report.series import Series, number

_CONTROLS = ("unigram", "length", "constant", "untrained")
_HEADLINES = ("accuracy", "f1", "loss", "bits_per_byte", "perplexity")
"""What is drawn first, where a task has it."""
_DETAILED = ("paradigm/",)
"""Groups that are too many for a page."""
_MOST_COLUMNS = 8
_MOST_VIEWS = 60
"""Subsets of one metric of a task that can be chosen."""


def evaluation_figures(records: Sequence[Record]) -> list[Figure]:
    """Draw each task: of one run those asked at two steps or more, of several all, side by side.

    Args:
        records: of the runs.
    """
    figures = []
    for place, task in enumerate(dict.fromkeys(task for record in records for task in task_names(record))):
        of_runs = [_asked(record, task) for record in records]
        views = _of_one(of_runs[0]) if len(records) == 1 else _of_several(of_runs, titles(records))
        if views:
            figures.append(Figure(f"evaluation-{place}", task, views))
    return figures


def _asked(record: Record, task: str) -> list[Line]:
    return [row for row in record.evaluations if row["task"] == task and row["step"] is not None]


def _of_one(rows: Sequence[Line]) -> list[View]:
    if len({row["step"] for row in rows}) < 2:
        return []
    return [view for metric in headline_metrics(rows) for view in _views(rows, metric)]


def _of_several(of_runs: Sequence[Sequence[Line]], called: Sequence[str]) -> list[View]:
    """Each group at the last step of each run, and over steps each subset."""
    together = [row for rows in of_runs for row in rows]
    views = []
    for metric in headline_metrics(together):
        subsets = list(dict.fromkeys(row["subset"] for row in together if row["metric"] == metric))
        curves = [view for subset in subsets[:_MOST_VIEWS] for view in _overlay(of_runs, called, subset, metric)]
        # The whole first, then what it consists of.
        views += [*curves[:1], *_dots(of_runs, called, subsets, metric), *curves[1:]]
    return views


def _overlay(of_runs: Sequence[Sequence[Line]], called: Sequence[str], subset: str, metric: str) -> list[View]:
    own = [[row for row in rows if (row["subset"], row["metric"]) == (subset, metric)] for rows in of_runs]
    traces = overlaid(called, [evaluated_series(rows) for rows in own], ".4~g")
    name = metric.replace("_", " ")
    title = name if subset == "all" else f"{name}, {subset}"
    # One point of one run compares nothing.
    several = sum(map(len, own)) > 1
    return [View(title, traces, {"title": {"text": unit(metric)}}, steps_axis(traces))] if several and traces else []


def _dots(of_runs: Sequence[Sequence[Line]], called: Sequence[str], subsets: Sequence[str], metric: str) -> list[View]:
    groups: dict[str, list[str]] = {}
    for subset in subsets:
        if "/" in subset and not subset.startswith(_DETAILED):
            groups.setdefault(subset.partition("/")[0], []).append(subset)
    views = []
    for kind, own in groups.items():
        if len(own) > 1:
            drawn = [_of_run(lines, own, metric, run, called) for run, lines in enumerate(of_runs) if lines]
            across, up = dot_axes(unit(metric), drawn[0].rows)
            views.append(View(f"{metric.replace('_', ' ')} by {kind}, last step of each run", drawn, up, across))
    return views


def _of_run(lines: Sequence[Line], subsets: Sequence[str], metric: str, run: int, called: Sequence[str]) -> Dots:
    last = max(line["step"] for line in lines)
    there = {line["subset"]: line for line in lines if line["metric"] == metric and line["step"] == last}
    found = [there.get(subset) for subset in subsets]
    return Dots(
        f"{called[run]}, step {numbers.whole(last)}",
        [subset.partition("/")[2].replace("_", " ") for subset in subsets],
        [None if line is None else number(line["value"]) for line in found],
        [None if line is None else number(line["se"]) for line in found],
        run,
        shift(run, len(called)),
        f"series-{run % COLOURS + 1}",
    )


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
    return View(title, traces, {"title": {"text": unit(metric)}}, steps_axis(traces))


def unit(metric: str) -> str:
    """What stands on the axis of a metric."""
    name = label(metric.replace("_", " "))
    return f"{name} (%)" if metric in ("accuracy", "f1") else name


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
