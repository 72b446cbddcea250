"""`picolm experiment`: claims, and the runs that are to show them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from picolm.commands.arguments import AsJson, With, trusted

experiment_app = typer.Typer(help="State a hypothesis, and see what it takes to test it.", no_args_is_help=True)
PlanPath = Annotated[Path, typer.Argument(metavar="PLAN", help="The YAML file of a plan.")]


@experiment_app.command()
def plan(target: PlanPath, with_: With = None, as_json: AsJson = False) -> None:
    """Show what a plan comes to: its arms, its runs, their cost, and what it will not be able to tell.

    Examples:
        picolm experiment plan warmup.yaml
    """
    from picolm.assembly.experimenting import outline
    from picolm.terminal.experiment import print_outline
    from picolm.terminal.progress import PreparationProgress, messages
    from picolm.terminal.tables import print_json

    found = outline(target, trusted=trusted(with_), progress=PreparationProgress(messages()))
    (print_json if as_json else print_outline)(found.plain())
