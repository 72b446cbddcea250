"""Evaluations on the terminal: how far they are, and what they found."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from picolm.runs.evaluations import Evaluated
from picolm.terminal.progress import QUIET_SECONDS, PreparationProgress
from picolm.terminal.tables import print_table, printable, readable_duration

_COLUMNS = 7
_CONTROLS = ("unigram", "length", "constant", "untrained")


class EvaluationProgress:
    """A bar for each checkpoint and task on a terminal, a line now and then elsewhere; both say how much is left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._preparation = PreparationProgress(console)
        self._bars: Progress | None = None
        self._bar = TaskID(0)
        self._what = ""
        self._began = self._last_line = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note that `done` of `total` items are done."""
        if "," not in phase:
            # Data that had to be prepared again, in bytes.
            self._preparation(phase, done, total)
        elif self._console.is_terminal:
            self._draw(phase, done, total)
        else:
            self._line(phase, done, total)

    def _draw(self, what: str, done: int, total: int) -> None:
        if self._bars is None:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
            self._bars = Progress(*columns, TextColumn("[dim]left"), TimeRemainingColumn(), console=self._console)
            self._bars.start()
        if what != self._what:
            self._what = what
            self._bar = self._bars.add_task(escape(printable(what)), total=total)
        self._bars.update(self._bar, completed=done, total=total)

    def _line(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._last_line = what, now, now
        if now - self._last_line < QUIET_SECONDS and done < total:
            return
        self._last_line = now
        left = (now - self._began) / max(done, 1) * (total - done)
        rest = f", {readable_duration(left)} left" if done < total else ""
        self._console.print(f"{what}: {done:,} of {total:,}{rest}", highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> EvaluationProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bars as they are: something else will be shown below."""
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._what = None, ""


def print_evaluations(rows: Sequence[Evaluated], *, paradigms: bool = False) -> None:
    """Print what was found: a curve where there are several checkpoints, and the last one in full, task by task."""
    for task in dict.fromkeys(row.task for row in rows):
        own = [row for row in rows if row.task == task]
        steps = list(dict.fromkeys(row.step for row in own))
        if len(steps) > 1:
            _print_curve(task, own, steps)
        last = [row for row in own if row.step == steps[-1]]
        title = printable(task if steps[-1] is None else f"{task}, step {steps[-1]:,}")
        if any(row.metric == "accuracy_over_pairs" for row in last):
            _print_accuracies(title, last, paradigms)
        elif any(row.metric == "loss" for row in last):
            _print_losses(title, last)
        else:
            _print_any(title, last)


def _table(rows: Iterable[Evaluated]) -> dict[str, dict[str, Evaluated]]:
    table: dict[str, dict[str, Evaluated]] = {}
    for row in rows:
        table.setdefault(row.subset, {})[row.metric] = row
    return table


def _print_curve(task: str, rows: Sequence[Evaluated], steps: Sequence[int | None]) -> None:
    names = ("accuracy", "accuracy_low", "accuracy_high", "loss", "perplexity", "bits_per_byte", "macro_perplexity")
    found = {step: _table(row for row in rows if row.step == step).get("all", {}) for step in steps}
    there = list(dict.fromkeys(name for own in found.values() for name in own))
    shown = [name for name in names if name in there] or there[:_COLUMNS]
    if not shown:
        return
    body = [["-" if step is None else str(step), *(_number(found[step].get(name)) for name in shown)] for step in steps]
    print_table(["step", *(name.replace("_", " ") for name in shown)], body, title=printable(f"{task}, all"))


def _print_accuracies(title: str, rows: Sequence[Evaluated], paradigms: bool) -> None:
    table = _table(rows)
    controls = [name for name in _CONTROLS if f"accuracy_{name}" in table["all"]]
    shown = [s for s in table if paradigms or not s.startswith("paradigm/") or not _has_larger(table)]
    body = []
    for subset in shown:
        found = table[subset]
        name = subset.partition("/")[2] or subset
        # That of a paradigm is an id; it stands so in files.
        cells = [name if subset.startswith("paradigm/") else name.replace("_", " "), f"{found['accuracy'].n:,}"]
        cells += [_number(found[name]) for name in ("accuracy", "accuracy_low", "accuracy_high")]
        cells += [f"{found['ties'].value:.0f}"]
        body.append([*cells, *(_number(found[f"accuracy_{name}"]) for name in controls)])
    print_table(["", "pairs", "accuracy", "low", "high", "ties", *controls], body, title=title)
    over = table["all"]["accuracy_over_pairs"]
    # The mean over paradigms and the mean over pairs differ where paradigms differ in size.
    if abs(over.value - table["all"]["accuracy"].value) > 1e-9:
        Console().print(f"over all pairs: {_number(over)}", highlight=False)


def _has_larger(table: Mapping[str, object]) -> bool:
    return any(subset.startswith(("field/", "term/")) for subset in table)


def _print_losses(title: str, rows: Sequence[Evaluated]) -> None:
    table = _table(rows)
    body = []
    for subset, found in table.items():
        if "loss" in found:
            loss = found["loss"]
            error = "-" if loss.se is None else f"{loss.se:.4f}"
            cells = [subset, f"{found['texts'].value:,.0f}", f"{loss.n:,}", f"{loss.value:.4f}", error]
            body.append([*cells, *(_number(found.get(name)) for name in ("perplexity", "bits_per_byte"))])
    print_table(["", "texts", "tokens", "loss", "se", "perplexity", "bits per byte"], body, title=title)
    for name, row in table["all"].items():
        if name in ("macro_perplexity", "pico_mean_sequence_perplexity"):
            Console().print(f"{name.replace('_', ' ')}: {_number(row)}", highlight=False)


def _print_any(title: str, rows: Sequence[Evaluated]) -> None:
    """A line for each subset, a column for each metric that the first subset has; others are in `--json`."""
    table = _table(rows)
    shown = list(next(iter(table.values())))[:_COLUMNS]
    body = [
        [subset.replace("_", " "), *(_with_error(found.get(name)) for name in shown)]
        for subset, found in table.items()
        if any(name in found for name in shown)
    ]
    print_table(["", *(name.replace("_", " ") for name in shown)], body, title=title)


def _with_error(row: Evaluated | None) -> str:
    error = "" if row is None or row.se is None else f" ±{row.se:.2f}"
    return f"{_number(row)}{error}"


def _number(row: Evaluated | None) -> str:
    if row is None:
        return "-"
    digits = {"loss": 4, "bits_per_byte": 4}.get(row.metric, 1 if row.metric.startswith("accuracy") else 2)
    return f"{row.value:,.{digits}f}" if row.value < 1e9 else f"{row.value:.2e}"
