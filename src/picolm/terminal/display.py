"""A run on the terminal: one live line with progress, loss, speed and time left; plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from picolm.seams import Observer
from picolm.terminal.forecast import forecast_line
from picolm.terminal.progress import QUIET_SECONDS
from picolm.terminal.tables import printable

_FIGURES = 4


def display_for(console: Console) -> Observer:
    """The live display on a terminal, plain lines in a file or a pipe."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


class LiveDisplay(Observer):
    """One line that is drawn over, and a line that stays for each validation."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("[dim]left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
        )
        self._task = TaskID(0)
        self._loss = self._speed = ""

    def started(self, facts: Mapping[str, Any]) -> None:
        """Draw the first line."""
        self._progress.console.print(opening(facts), highlight=False, markup=False)
        self._progress.start()
        self._task = self._progress.add_task(
            escape(str(facts["name"])), total=facts["steps"], completed=facts["first"], figures=""
        )

    def logged(self, record: Mapping[str, Any]) -> None:
        """Move the bar, or print a validation above it."""
        if record["event"] == "train":
            self._loss = f"loss {record['loss']:.3f}"
            self._progress.update(self._task, completed=record["step"], figures=f"{self._loss}  {self._speed}")
        elif record["event"] == "validation":
            self._progress.console.print(validation_line(record), highlight=False, markup=False)
        elif record["event"] == "evaluation":
            self._progress.console.print(evaluation_line(record), highlight=False, markup=False)

    def evaluating(self, what: str, done: int, total: int) -> None:
        """Say behind the bar what training waits for."""
        self._progress.update(self._task, figures=escape(printable(f"{what}: {done:,} of {total:,}")))

    def timed(self, record: Mapping[str, Any]) -> None:
        """Show the new speed."""
        self._speed = speed(record)
        self._progress.update(self._task, figures=f"{self._loss}  {self._speed}")

    def ended(self, step: int) -> None:
        """Leave the last line standing."""
        self._progress.stop()


class PlainDisplay(Observer):
    """A line every few seconds, and one for each validation."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = 0
        self._last_line = time.monotonic()
        self._record: Mapping[str, Any] | None = None

    def started(self, facts: Mapping[str, Any]) -> None:
        """Say what is trained."""
        self._console.print(opening(facts), highlight=False, markup=False, soft_wrap=True)
        self._steps = int(facts["steps"])
        self._last_line = time.monotonic()

    def logged(self, record: Mapping[str, Any]) -> None:
        """Print a validation; keep a training step for the next line."""
        if record["event"] == "train":
            self._record = record
        elif record["event"] == "validation":
            self._console.print(validation_line(record), highlight=False, markup=False, soft_wrap=True)
        elif record["event"] == "evaluation":
            self._console.print(evaluation_line(record), highlight=False, markup=False, soft_wrap=True)

    def evaluating(self, what: str, done: int, total: int) -> None:
        """Print a line if the last one is old enough."""
        now = time.monotonic()
        if now - self._last_line < QUIET_SECONDS:
            return
        self._last_line = now
        line = printable(f"{what}: {done:,} of {total:,}")
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def timed(self, record: Mapping[str, Any]) -> None:
        """Print a line if the last one is old enough."""
        now = time.monotonic()
        if self._record is None or (now - self._last_line < QUIET_SECONDS and record["step"] < self._steps):
            return
        self._last_line = now
        left = record["step_seconds"] * (self._steps - record["step"])
        self._console.print(
            f"step {record['step']}/{self._steps}  loss {self._record['loss']:.3f}  {speed(record)}  {left:.0f} s left",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def opening(facts: Mapping[str, Any]) -> str:
    """What a run is, before it begins: its size, its data, its length; and what of its vocabulary is never used."""
    config, split, tokenizer = facts["config"], facts["data"]["splits"]["train"], facts["data"]["tokenizer"]
    rows, length = config["training"]["batch_size"], config["data"]["sequence_length"]
    text = (
        f"{facts['name']}: {facts['parameters']['total']:,} parameters, "
        f"{facts['steps']:,} steps of {rows} x {length} tokens "
        f"({facts['steps'] * rows * length / split['tokens']:.2f} passes over {split['tokens']:,} tokens)"
    )
    if facts["first"]:
        text += f", going on from step {facts['first']:,}"
    unused = config["model"]["vocab_size"] - tokenizer["vocab_size"]
    # Rows that fill up to a round number are meant; a third or more is a preset that met a small corpus.
    if 2 * unused > tokenizer["vocab_size"]:
        text += (
            f"\nmodel.vocab_size leaves {unused:,} rows that no token uses; model.vocab_size=null follows the tokenizer"
        )
    return f"{text}\n{forecast_line(facts['forecast'])}"


def speed(record: Mapping[str, Any]) -> str:
    """Tokens per second, in thousands where there are many."""
    rate = float(record["tokens_per_second"])
    return f"{rate / 1000:.1f}k tokens/s" if rate >= 1000 else f"{rate:.0f} tokens/s"


def evaluation_line(record: Mapping[str, Any]) -> str:
    """One line about what a checkpoint knew: the first figures over everything of one task."""
    figures = "  ".join(f"{name} {value:,.2f}" for name, value in list(record["figures"].items())[:_FIGURES])
    return printable(f"step {record['step']}: {record['task']}: {figures}".replace("_", " "))


def validation_line(record: Mapping[str, Any]) -> str:
    """One line about a validation: the loss over all domains, then each domain's."""
    domains = "  ".join(f"{name} {figures['loss']:.3f}" for name, figures in record["domains"].items())
    average = f"  averaged weights {record['ema']['loss']:.4f}" if "ema" in record else ""
    return printable(f"step {record['step']}: validation loss {record['loss']:.4f}  ({domains}){average}")
