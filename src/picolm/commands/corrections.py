"""`picolm corrections`: what each correction of the published recipe of convergence changes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from picolm.commands.arguments import AsJson


def corrections(
    target: Annotated[Path, typer.Argument(metavar="STUDY", help="The YAML file of a study: models by size, a probe.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Where the tables go, and the metrics of models; default: analysis/STUDY, and the metrics where "
            "picolm analyze keeps them.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Test the link between convergence and rank by permutation, correction by correction.

    Examples:
        picolm corrections examples/stability/suite.yaml

        picolm corrections pythia.yaml --output tables
    """
    from picolm.analysis.study import carry_out, read_study
    from picolm.analysis.study_files import refuse_foreign, write
    from picolm.terminal.corrections import print_studied
    from picolm.terminal.evaluation import EvaluationProgress
    from picolm.terminal.progress import messages
    from picolm.terminal.tables import print_json

    study, folder = read_study(target), output or Path("analysis") / target.stem
    refuse_foreign(folder)
    with EvaluationProgress(messages()) as progress:
        found = carry_out(study, output=output, progress=progress)
    written = write(found, folder)
    for note in found.notes:
        messages().print(note, highlight=False, markup=False, soft_wrap=True)
    if as_json:
        files = [str(path) for path in written]
        print_json({"links": found.links.to_dicts(), "sizes": found.sizes.to_dicts(), "files": files})
    else:
        print_studied(found, written)
