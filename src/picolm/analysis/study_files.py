"""What a study leaves in a folder: `study.json` (what was asked), `layers.csv`, `links.csv`, `sizes.csv`."""

from __future__ import annotations

import json
from pathlib import Path

from picolm.analysis.settling_files import facts_of
from picolm.analysis.study import Studied
from picolm.errors import PicoLMError
from picolm.runs.durable import make_parents, write_bytes, write_text

_KIND = "picolm study"
_SUMMARY = "study.json"
_TABLES = ("layers", "links", "sizes")


def refuse_foreign(folder: Path) -> None:
    """Find out before anything is measured whether the files may be written.

    Raises:
        PicoLMError: the folder is a file, or has files of these names that no study wrote.
    """
    if folder.exists() and not folder.is_dir():
        raise PicoLMError(f"{folder} is a file: choose another --output")
    there = [path for path in (folder / _SUMMARY, *(folder / f"{name}.csv" for name in _TABLES)) if path.exists()]
    if there and not facts_of(folder / _SUMMARY, _KIND):
        raise PicoLMError(f"{there[0]} was not written by picolm corrections: choose another --output")


def write(found: Studied, folder: Path) -> list[Path]:
    """Write what was asked and the tables.

    Args:
        found: what was found.
        folder: as `refuse_foreign` found it fit.

    Returns:
        Their paths.

    Raises:
        PicoLMError: as `refuse_foreign`, the disk is full, or the place cannot be written to.
    """
    refuse_foreign(folder)
    summary = folder / _SUMMARY
    make_parents(summary)
    facts = {"kind": _KIND, "format": 1, "study": found.study.model_dump(mode="json"), "notes": found.notes}
    # First, as it says whose the others are.
    write_text(summary, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    paths = [folder / f"{name}.csv" for name in _TABLES]
    for path, table in zip(paths, (found.layers, found.links, found.sizes), strict=True):
        write_bytes(path, table.write_csv().encode())
    return [summary, *paths]
