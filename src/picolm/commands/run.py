"""`picolm resume`, `fork`, `verify`, `show`: what is done with a run that is there."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from picolm.commands.arguments import AsJson, Overrides, RunPath, Trust, With, trusted
from picolm.errors import PicoLMError

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
    # Of several processes that train one run, the first one speaks.
    if os.environ.get("RANK", "0") != "0":
        start(observers=[], progress=None, interruption=interruption)
        raise typer.Exit(interruption.exit_code)
    run = start(observers=[display_for(console)], progress=PreparationProgress(console), interruption=interruption)
    show(run.path, as_json)
    if interruption.signal is not None:
        console.print(f"ended early by {interruption.signal.name}; to go on: picolm resume {run.path}", soft_wrap=True)
    raise typer.Exit(interruption.exit_code)


def resume(target: RunPath, with_: With = None, trust: Trust = False, as_json: AsJson = False) -> None:
    """Go on with a run that was interrupted or killed, exactly as if it had not been.

    Examples:
        picolm resume runs/demo

        picolm resume runs/mine --trust
    """
    from picolm.assembly.training import resume as resume_run

    if with_ and any(len(words.split()) > 1 for words in with_):
        raise PicoLMError("a run that is resumed keeps its settings: name the intervention only, or fork the run")
    watched(partial(resume_run, target, trusted=trusted(with_), trust=trust), as_json)


def fork(
    target: RunPath,
    at: Annotated[int, typer.Option("--at", min=0, help="The step to branch at; the run must have a state there.")],
    overrides: Overrides = None,
    with_: With = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="Leave out an intervention of the run; may be repeated.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the fork; must be free.")] = None,
    runs_dir: Annotated[
        Path | None, typer.Option("--runs-dir", help="Where the fork is to stand; default: beside the run.")
    ] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Branch a run at a checkpoint: a shared past, other interventions or settings, another future.

    Examples:
        picolm fork runs/demo --at 100 --with "label_smoothing alpha=0.1"

        picolm fork runs/demo --at 100 optimizer.learning_rate=1e-3 --name hotter
    """
    from picolm.assembly.forking import fork as fork_run

    start = partial(
        fork_run,
        target,
        at,
        overrides=overrides or [],
        interventions=with_ or [],
        without=without or [],
        name=name,
        runs_dir=runs_dir,
        trusted=trusted(with_),
        trust=trust,
    )
    watched(start, as_json)


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
