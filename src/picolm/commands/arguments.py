"""Arguments that several commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def complete_run(incomplete: str) -> list[str]:
    """Runs below `runs/` that begin so."""
    return [str(f.parent) for f in Path("runs").glob("*/run.json") if str(f.parent).startswith(incomplete)]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ModelPath = Annotated[
    Path, typer.Argument(help="A run, a checkpoint or a model directory.", autocompletion=complete_run)
]
