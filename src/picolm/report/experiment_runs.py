"""Every run of an experiment, and where its own page is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from picolm.experiments.findings import Cost, Findings, RunRecord, State
from picolm.experiments.quantity import Number
from picolm.report import numbers
from picolm.report.markup import Markup, data_table, element
from picolm.runs.verification import REPORT

_SIGNS: dict[State, str] = {
    "waiting": "\u2026",
    "running": "\u25b6",
    "stopped": "\u2016",
    "failed": "\u2717",
    "finished": "\u2713",
}


def status(findings: Findings) -> str:
    """How many runs are finished, and what the others do."""
    runs = findings.runs
    finished = sum(run.state == "finished" for run in runs)
    others: list[State] = ["running", "stopped", "failed", "waiting"]
    counts = {state: sum(run.state == state for run in runs) for state in others}
    rest = "".join(f", {count} {state}" for state, count in counts.items() if count)
    return f"{finished} of {len(runs)} runs finished{rest}"


def runs_table(findings: Findings, runs: Sequence[RunRecord], page: Path, folder: Path) -> Markup:
    """A row for each run.

    Args:
        findings: gives the numbers their order.
        runs: of the comparison, or of the search.
        page: the file that the table is written to.
        folder: where the directories of the runs are.
    """
    if not runs:
        return Markup()
    named = [one.prediction.measure.words for one in findings.judged]
    words = list(dict.fromkeys([*named, *(word for run in runs for word in run.values)]))
    words = [word for word in words if any(word in run.values for run in runs)]
    measures = [element("span", word, class_="measure") for word in words]
    head = ["Run", "Arm", "Size", "Seeds", "State", "Steps", *measures, "FLOPs", "Time", "Disk", "Notes"]
    rows = [_row(run, words, _named(run, page, folder)) for run in runs]
    if not any(run.size for run in runs):
        head, rows = [*head[:2], *head[3:]], [[*row[:2], *row[3:]] for row in rows]
    first = head.index("Steps")
    return data_table(head, rows, range(first, len(head) - 1))


def _row(run: RunRecord, words: Sequence[str], name: Markup) -> list[object]:
    return [
        name,
        run.arm,
        run.size,
        run.repetition,
        element("span", f"{_SIGNS[run.state]} {run.state}", class_=f"state {run.state}"),
        f"{numbers.whole(run.steps)} of {numbers.whole(run.planned_steps)}",
        *(value_words(run.values.get(word)) for word in words),
        *_cost(run.cost),
        element("div", *(element("p", note) for note in run.notes), class_="said") if run.notes else "",
    ]


def _cost(cost: Cost | None) -> tuple[str, str, str]:
    if cost is None:
        return "", "", ""
    return f"{cost.flops:.3g}", numbers.duration(cost.seconds), numbers.size(cost.disk_bytes)


def value_words(value: Number | None) -> str:
    """Write a number of a run; of a censored one, that it is larger."""
    if value is None:
        return ""
    size = abs(value.value)
    shown = numbers.count(value.value) if size >= 1e5 else numbers.exact(value.value, numbers.decimals(size / 100))
    return f"> {shown} (censored)" if value.censored else shown


def _named(run: RunRecord, page: Path, folder: Path) -> Markup:
    """The name of a run, which leads to its own page where there is one."""
    own = folder / run.name / REPORT
    if not own.is_file():
        return element("span", run.name)
    relative = Path(os.path.relpath(own.resolve(), page.resolve().parent)).as_posix()
    return element("a", run.name, href=quote(relative))
