"""The lab notebook: `picolm lab` reads it, `picolm experiment record` writes to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from picolm.commands.arguments import AsJson

NotebookPath = Annotated[Path, typer.Option("--folder", help="Where records stand.")]
_HERE = Path("docs/lab")


def lab(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One record; else all are listed.")] = None,
    folder: NotebookPath = _HERE,
    as_json: AsJson = False,
) -> None:
    """List the experiments of the lab notebook, newest first, or show one.

    Examples:
        picolm lab

        picolm lab warmup --folder docs/lab
    """
    from picolm.experiments.notebook import Notebook
    from picolm.terminal.lab import print_record, print_records
    from picolm.terminal.tables import print_json

    notebook = Notebook(folder)
    if name is not None:
        found = notebook.record(name)
        if as_json:
            print_json(found.plain())
        else:
            print_record(found)
    elif as_json:
        print_json([one.plain() for one in notebook.records()])
    else:
        print_records(notebook.records())


def record(
    target: Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="The folder of an experiment.")],
    lesson: Annotated[str, typer.Option("--lesson", help="What one knows now, and would do otherwise.")] = "",
    question: Annotated[str, typer.Option("--question", help="What one wanted to know.")] = "",
    command: Annotated[str, typer.Option("--command", help="What makes the runs again.")] = "",
    folder: NotebookPath = _HERE,
    as_json: AsJson = False,
) -> None:
    """Write what an experiment found into the lab notebook, also when it is negative.

    A record of the same plan is brought up to date, and its lesson and question stay; a record of another plan is not
    touched.

    Examples:
        picolm experiment record experiments/warmup --lesson "Three seeds were too few."
    """
    import os
    from datetime import UTC, datetime

    from picolm.experiments.assessment import assess
    from picolm.experiments.folder import ExperimentFolder
    from picolm.experiments.notebook import Notebook
    from picolm.experiments.recording import provenance_of, record_of
    from picolm.terminal.evaluation import EvaluationProgress
    from picolm.terminal.lab import print_record
    from picolm.terminal.progress import messages
    from picolm.terminal.tables import print_json

    experiment, notebook = ExperimentFolder.open(target), Notebook(folder)
    with EvaluationProgress(messages()) as progress:
        findings = assess(experiment, progress)
    page = experiment.report_path
    made = record_of(
        findings,
        provenance_of(experiment),
        date=datetime.now(UTC).date(),
        command=command or f"picolm experiment run {findings.plan.name}.yaml",
        report=os.path.relpath(page.resolve(), folder.resolve()) if page.is_file() else None,
        question=question,
        lesson=lesson,
    )
    kept = notebook.keep(made, [version.digest for version in findings.versions])
    if as_json:
        print_json(kept.plain())
        return
    print_record(kept)
    typer.echo(f"record: {notebook.path_of(kept.name)}")
    if not kept.lesson:
        typer.echo("its `lesson:` is empty: write what you know now, or give --lesson")
