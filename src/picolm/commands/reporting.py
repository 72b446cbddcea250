"""`picolm report`: pages about runs, and figures for papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from picolm.commands.arguments import complete_run


def report(
    targets: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="A run, or several for one page.", autocompletion=complete_run),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "--output", help="The page; default: report.html in the run, for several runs here."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Write figures for papers there, as PNG and SVG.")
    ] = None,
) -> None:
    """Write the HTML page of a run (`train` has done so already), or one page that compares several.

    Examples:
        picolm report runs/demo --out demo.html

        picolm report runs/demo runs/demo-2 --out both.html --figures figures
    """
    from picolm.assembly.reporting import report as write_report
    from picolm.terminal.evaluation import EvaluationProgress
    from picolm.terminal.progress import messages

    with EvaluationProgress(messages()) as progress:
        page = write_report(targets, out=out, figures=figures, progress=progress)
    typer.echo(page)
    if figures is not None:
        typer.echo(figures)
