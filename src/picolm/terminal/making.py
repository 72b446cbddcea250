"""An experiment on the terminal while its runs are made: a bar for each run that trains; plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from picolm.experiments.design import PlannedRun
from picolm.experiments.findings import State
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.status import progress_of
from picolm.terminal.display import speed
from picolm.terminal.progress import QUIET_SECONDS
from picolm.terminal.tables import printable

_LOOK_SECONDS = 1.0
_LAST_LINES = 3


class ExperimentDisplay:
    """Lines that stay for beginnings and ends, and, on a terminal, bars of what trains. A `making.Watcher`."""

    def __init__(self, console: Console, folder: ExperimentFolder) -> None:
        self._console, self._folder = console, folder
        self._live = console.is_terminal
        self._bars = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._last_look = self._last_line = time.monotonic()

    def __enter__(self) -> ExperimentDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self) -> None:
        """Show bars from here on."""
        if self._live:
            self._bars.start()

    def began(self, run: PlannedRun, *, anew: bool) -> None:
        """Say that a process was started."""
        self._started[run.name] = time.monotonic()
        self._say(f"{run.name}: {'begins' if anew else 'goes on'}")
        self._add(run)

    def waits(self, run: PlannedRun) -> None:
        """Say that another process makes a run."""
        self._started[run.name] = time.monotonic()
        self._say(f"{run.name}: is being made already, and is waited for")
        self._add(run)

    def ended(self, run: PlannedRun, state: State, log: Path) -> None:
        """Say how it ended; of a failure, the end of what it printed."""
        task = self._tasks.pop(run.name, None)
        if task is not None:
            self._bars.remove_task(task)
        seconds = time.monotonic() - self._started.pop(run.name, time.monotonic())
        self._say(f"{run.name}: {state} after {seconds:.0f} s")
        if state == "failed":
            for line in _last_lines(log):
                self._say(f"  {line}")
            self._say(f"  all it printed: {log}")

    def looked(self, running: Sequence[PlannedRun], left: int) -> None:
        """Move the bars, or print a line now and then."""
        now = time.monotonic()
        if now - self._last_look < _LOOK_SECONDS:
            return
        self._last_look = now
        if not self._live and now - self._last_line < QUIET_SECONDS:
            return
        self._last_line = now
        figures = []
        for run in running:
            step, rate = progress_of(self._folder, run)
            said = "" if rate is None else speed({"tokens_per_second": rate})
            figures.append(f"{run.name} {step}/{run.config.training.steps}")
            if run.name in self._tasks:
                self._bars.update(self._tasks[run.name], completed=step, figures=said)
        if not self._live:
            self._say(f"{', '.join(figures)}; {left} more to begin")

    def _add(self, run: PlannedRun) -> None:
        if self._live:
            steps = run.config.training.steps
            self._tasks[run.name] = self._bars.add_task(escape(run.name), total=steps, figures="")

    def _say(self, line: str) -> None:
        self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _last_lines(log: Path) -> list[str]:
    try:
        text = log.read_bytes()[-4096:].decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-_LAST_LINES:]
