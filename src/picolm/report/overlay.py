"""Several runs in one plot: what each is called, its colour, and which are compared two by two."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from picolm.report.figures import COLOURS, DASHES, Trace
from picolm.report.record import Record
from picolm.report.series import Series

_MOST_ALL_PAIRS = 4
"""Runs up to which each is compared with each; of more each with the first, or a page would hold little else."""


def titles(records: Sequence[Record]) -> list[str]:
    """What the runs are called: their names, numbered where two have the same."""
    all_names = [record.name for record in records]
    return [
        name if all_names.count(name) == 1 else f"{name} ({all_names[: place + 1].count(name)})"
        for place, name in enumerate(all_names)
    ]


def dash(run: int) -> str:
    """The line of a run: where there are more runs than colours, it tells them apart."""
    return DASHES[run // COLOURS % len(DASHES)]


def overlaid(names: Sequence[str], curves: Sequence[Series], decimals: str, *, marked: bool = True) -> list[Trace]:
    """Return a curve for each run that has one, in its own colour.

    Args:
        names: of the runs.
        curves: of the runs, in the same order; an empty one is left out.
        decimals: how values are written on hovering, as a d3 format.
        marked: whether each point has a mark.
    """
    return [
        Trace(name, series, f"series-{run % COLOURS + 1}", decimals, dash=dash(run), marked=marked, runs=(run,))
        for run, (name, series) in enumerate(zip(names, curves, strict=True))
        if series
    ]


def pairs(n_runs: int) -> list[tuple[int, int]]:
    """Which of some runs are compared with which: each with each, of more than four each with the first."""
    if n_runs <= _MOST_ALL_PAIRS:
        return list(combinations(range(n_runs), 2))
    return [(0, other) for other in range(1, n_runs)]
