"""`picolm experiment`: claims, and the runs that are to show them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from picolm.commands.arguments import AsJson, With, trusted

experiment_app = typer.Typer(help="State a hypothesis, and see what it takes to test it.", no_args_is_help=True)
PlanPath = Annotated[Path, typer.Argument(metavar="PLAN", help="The YAML file of a plan.")]


@experiment_app.command()
def plan(
    target: PlanPath,
    quick: Annotated[
        bool, typer.Option("--quick", help="Make no short runs to measure what runs take; the time is then rough.")
    ] = False,
    with_: With = None,
    as_json: AsJson = False,
) -> None:
    """Show what a plan comes to: its arms, its runs, their cost, and what it will not be able to tell.

    Short runs measure the cost; the same plan a second time reads what they showed.

    Examples:
        picolm experiment plan warmup.yaml

        picolm experiment plan warmup.yaml --quick
    """
    from picolm.assembly.experimenting import outline
    from picolm.terminal.evaluation import EvaluationProgress
    from picolm.terminal.experiment import calibration_line, print_outline
    from picolm.terminal.progress import messages
    from picolm.terminal.tables import print_json

    console = messages()

    def tell(runs: int, seconds: float) -> None:
        console.print(calibration_line(runs, seconds), highlight=False, markup=False, soft_wrap=True)

    with EvaluationProgress(console) as progress:
        found = outline(target, trusted=trusted(with_), measured=not quick, progress=progress, tell=tell)
    (print_json if as_json else print_outline)(found.plain())
