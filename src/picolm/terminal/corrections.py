"""A study on the terminal: a row for each correction, and sizes beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from rich.console import Console

from picolm.analysis.study import Studied
from picolm.terminal.tables import print_table, printable


def print_studied(found: Studied, written: Sequence[Path]) -> None:
    """Print what was found, and where it stands."""
    for (part, of), own in found.links.group_by("part", "rank_of", maintain_order=True):
        title = f"{part}: do layers of larger rank of {of} settle earlier? (above 0: they do)"
        print_table(["correction", "over layers", "p", "over seeds", "p", "models"], _rows(own), title=printable(title))
    columns = ["size", "part", "models", "mean shortfall", "sd", "rank of weights", "sd", "of gradients", "sd"]
    body = [
        [
            row["size"],
            row["part"],
            str(row["models"]),
            _figure(None if row["earliness_mean"] is None else -row["earliness_mean"]),
            _figure(row["earliness_sd"]),
            *(_figure(row[f"{of}_{what}"]) for of in ("weights", "gradients") for what in ("mean", "sd")),
        ]
        for row in found.sizes.to_dicts()
    ]
    print_table(columns, body, title="by size, means over models and their sd over seeds")
    line = f"written: {', '.join(map(str, written))}"
    Console().print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _rows(own: pl.DataFrame) -> list[list[str]]:
    rows = []
    for rung in own["rung"].unique(maintain_order=True):
        tests = {row["over"]: row for row in own.filter(pl.col("rung") == rung).to_dicts()}
        figures = [_figure(tests[over][what]) for over in ("layers", "seeds") for what in ("value", "p_value")]
        rows.append([rung, *figures, str(tests["layers"]["models"])])
    return rows


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
