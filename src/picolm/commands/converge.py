"""`picolm converge`: when each layer settles, and whether layers of a larger rank settle earlier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from picolm.commands.arguments import AsJson, complete_run

_FOLDER = Path("analysis/convergence")


def complete_recipe(incomplete: str) -> list[str]:
    """Recipes that begin so."""
    from picolm.analysis.recipe import RECIPES

    return [name for name in RECIPES if name.startswith(incomplete)]


def converge(
    targets: Annotated[
        list[Path],
        typer.Argument(
            metavar="TARGET...",
            help="Runs, original Pico runs or folders of revisions such as Pythia's; several are compared by size.",
            autocompletion=complete_run,
        ),
    ],
    probe: Annotated[
        str | None,
        typer.Option(
            "--probe",
            metavar="FILE",
            help="A text, or a probe's name in the run, on which activations and gradients are computed. Default: "
            "those that were captured.",
        ),
    ] = None,
    recipe_name: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="corrected (debiased CKA, rank over noise) or published (biased CKA, yes or no).",
            autocompletion=complete_recipe,
        ),
    ] = "corrected",
    level: Annotated[
        float | None,
        typer.Option("--level", help="Similarity at which a layer is settled; default 0.9, published 0.45."),
    ] = None,
    steps: Annotated[str, typer.Option("--steps", help="all, log:20, or steps: 100,200.")] = "all",
    probe_rows: Annotated[int, typer.Option("--probe-rows", min=1, help="At most so many rows of the text.")] = 32,
    probe_length: Annotated[int, typer.Option("--probe-length", min=2, help="Positions of each row.")] = 128,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Where the summary and all tables go; default: analysis/convergence, and the metrics where picolm "
            "analyze keeps them.",
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again what is there already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare what each layer writes at every checkpoint with the last one: when it settles, and how large its rank is.

    Examples:
        picolm converge runs/demo --probe text.txt

        picolm converge pythia-70m pythia-160m --probe text.txt --steps log:17

        picolm converge runs/demo --probe text.txt --recipe published
    """
    from picolm.analysis.recipe import recipe
    from picolm.analysis.settling_files import refuse_foreign, write
    from picolm.analysis.tending import converge as library
    from picolm.terminal.convergence import print_convergence
    from picolm.terminal.evaluation import EvaluationProgress
    from picolm.terminal.progress import messages
    from picolm.terminal.tables import print_json

    folder = output or _FOLDER
    refuse_foreign(folder, recipe(recipe_name).name, targets)
    with EvaluationProgress(messages()) as progress:
        found = library(
            targets,
            probe=probe,
            recipe_name=recipe_name,
            level=level,
            steps=steps,
            probe_rows=probe_rows,
            probe_length=probe_length,
            output=output,
            again=again,
            progress=progress,
        )
    written = write(found, folder)
    for note in (note for suite in found.suites for note in suite.notes):
        messages().print(note, highlight=False, markup=False, soft_wrap=True)
    if as_json:
        print_json({**found.described, "files": [str(path) for path in written]})
        return
    print_convergence(found, written)
