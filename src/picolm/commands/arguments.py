"""Arguments that several commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def complete_run(incomplete: str) -> list[str]:
    """Runs below `runs/` that begin so."""
    return [str(f.parent) for f in Path("runs").glob("*/run.json") if str(f.parent).startswith(incomplete)]


def complete_key(incomplete: str) -> list[str]:
    """Keys of the schema that begin so."""
    from picolm.config.loading import valid_keys

    return [f"{key}=" for key in valid_keys() if key.startswith(incomplete)]


With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="'NAME key=value ...'",
        help="An intervention, your own as file.py:Class or module:Class, whose code this lets run; may be repeated.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Run the code of the run's own interventions where its SHA-256 is still the same."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run, for example runs/demo.", autocompletion=complete_run)
]
ModelPath = Annotated[
    Path, typer.Argument(help="A run, a checkpoint or a model directory.", autocompletion=complete_run)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes: key.path=value, for example training.steps=500", autocompletion=complete_key),
]


def trusted(with_: list[str] | None) -> list[str]:
    """The interventions that were named on the command line: their code may run."""
    from picolm.config.loading import used

    return [used(words) for words in with_ or []]
