"""`picolm resume`, `picolm verify`, `picolm show`: what is done with a run that is there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import typer

from picolm.commands.arguments import AsJson, RunPath

if TYPE_CHECKING:
    from picolm.runs.directory import RunDirectory


class Start(Protocol):
    """Trains a run while it is watched; `picolm.train` and `picolm.resume` with the rest of their arguments given."""

    def __call__(self, *, observers: Any, progress: Any, interruption: Any) -> RunDirectory:
        """Return the run when it has ended."""


def watched(start: Start, as_json: bool) -> None:
    """Train with a display, show the run, and exit as the signal says that ended it."""
    from picolm.terminal.display import display_for
    from picolm.terminal.progress import PreparationProgress, messages
    from picolm.training.interruption import Interruption

    console = messages()
    interruption = Interruption()
    run = start(observers=[display_for(console)], progress=PreparationProgress(console), interruption=interruption)
    show(run.path, as_json)
    if interruption.signal is not None:
        console.print(f"ended early by {interruption.signal.name}; to go on: picolm resume {run.path}", soft_wrap=True)
    raise typer.Exit(interruption.exit_code)


def resume(target: RunPath, as_json: AsJson = False) -> None:
    """Go on with a run that was interrupted or killed, exactly as if it had not been.

    Example:
        picolm resume runs/demo
    """
    from picolm.assembly.training import resume as resume_run

    watched(partial(resume_run, target), as_json)


def verify(target: RunPath, as_json: AsJson = False) -> None:
    """Compare every file of a run with what it should be; exit code 1 where something is damaged or missing.

    Example:
        picolm verify runs/demo
    """
    from picolm.runs.directory import RunDirectory
    from picolm.runs.verification import verify_run
    from picolm.terminal.tables import print_json
    from picolm.terminal.verification import print_verification

    found = verify_run(RunDirectory(target))
    (print_json if as_json else print_verification)(found.plain())
    raise typer.Exit(1 if found.damage else 0)


def show(target: RunPath, as_json: AsJson = False) -> None:
    """Show a run: what it is, how it went, what it left.

    Example:
        picolm show runs/demo
    """
    from picolm.runs.directory import RunDirectory
    from picolm.runs.summary import summarize
    from picolm.terminal.tables import print_json, print_run

    (print_json if as_json else print_run)(summarize(RunDirectory.open(target)))
