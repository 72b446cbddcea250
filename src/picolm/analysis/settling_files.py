"""What a convergence analysis leaves in a folder: a summary, the layers and the curves, one set for each recipe.

    corrected.json  corrected-layers.csv  corrected-curves.csv

They replace an earlier set of the same recipe and suites, and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from picolm.analysis.tending import Convergence
from picolm.errors import PicoLMError
from picolm.runs.durable import make_parents, write_bytes, write_text

FORMAT = 1
_KIND = "picolm convergence"


def paths_of(folder: Path, recipe: str) -> tuple[Path, Path, Path]:
    """Where the summary, the layers and the curves stand."""
    return folder / f"{recipe}.json", folder / f"{recipe}-layers.csv", folder / f"{recipe}-curves.csv"


def refuse_foreign(folder: Path, recipe: str, targets: list[Path]) -> None:
    """Find out before anything is measured whether the files may be written.

    Args:
        folder: where they are to stand.
        recipe: of the analysis.
        targets: what is analysed.

    Raises:
        PicoLMError: there are files of that name that are not of the same analysis.
    """
    if folder.exists() and not folder.is_dir():
        raise PicoLMError(f"{folder} is a file: choose another --output")
    summary, *tables = paths_of(folder, recipe)
    there = [path for path in (summary, *tables) if path.exists()]
    if not there:
        return
    paths = _analysed(summary)
    if paths is None:
        raise PicoLMError(f"{there[0]} was not written by picolm converge: choose another --output")
    if paths != _resolved(targets):
        raise PicoLMError(f"{summary} is of other targets ({', '.join(paths)}): choose another --output")


def write(found: Convergence, folder: Path) -> tuple[Path, Path, Path]:
    """Write the summary, the layers and the curves.

    Args:
        found: what was found.
        folder: as `refuse_foreign` found it fit.

    Returns:
        Their paths.

    Raises:
        PicoLMError: as `refuse_foreign`, the disk is full, or the place cannot be written to.
    """
    targets = [one.path for one in found.suites]
    refuse_foreign(folder, found.recipe.name, targets)
    summary, layers, curves = paths_of(folder, found.recipe.name)
    make_parents(summary)
    facts = {"kind": _KIND, "format": FORMAT, "targets": _resolved(targets), **found.described}
    # First, as it says whose the others are.
    write_text(summary, json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_bytes(layers, found.layers.write_csv().encode())
    write_bytes(curves, found.curves.write_csv().encode())
    return summary, layers, curves


def _resolved(targets: list[Path]) -> list[str]:
    return [str(target.resolve()) for target in targets]


def _analysed(summary: Path) -> list[str] | None:
    """The targets that a summary is of; None where it is none of ours."""
    targets = facts_of(summary, _KIND).get("targets")
    return [str(target) for target in targets] if isinstance(targets, list) else None


def facts_of(summary: Path, kind: str) -> dict[str, Any]:
    """Read what a summary says; nothing where it is none of this kind."""
    try:
        facts = json.loads(summary.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) and facts.get("kind") == kind else {}
