"""Heat maps of several runs side by side: the same colours for all, and what two of them differ in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from picolm.report.heatmap import HeatMap
from picolm.report.overlay import pairs

_MINUS = "\u2212"


def side_by_side(maps: Sequence[HeatMap], *, differences: bool = True) -> list[HeatMap]:
    """Put maps on one scale of colours.

    Args:
        maps: of the same quantity, one for each run.
        differences: whether to add, for each pair, a map that is shown where these two runs alone are.

    Returns:
        The maps, with the colours of the values of all of them; then the differences.
    """
    if len(maps) == 1:
        return list(maps)
    whole = replace(maps[0], values=[row for one in maps for row in one.values])
    common = [replace(one, decades=whole.logarithmic, limits=whole.bounds) for one in maps]
    chosen = pairs(len(common)) if differences else []
    return [*common, *(found for one, other in chosen if (found := difference(common[one], common[other])))]


def difference(first: HeatMap, second: HeatMap) -> HeatMap | None:
    """The second map less the first, where both have a column and a row; their ratio where colours are logarithms.

    Args:
        first: on the same scale as the second (`side_by_side`).
        second: of another run.

    Returns:
        A map whose colours part at 0, or at a ratio of 1; None where there is no cell that both have.
    """
    columns = [name for name in first.columns if name in set(second.columns)]
    rows = [name for name in first.rows if name in set(second.rows)]
    is_ratio = first.logarithmic
    ours, theirs = _cells(first), _cells(second)
    values = [[_change(ours[row, name], theirs[row, name], is_ratio) for name in columns] for row in rows]
    if all(value is None for line in values for value in line):
        return None
    return replace(
        first,
        name="ratio" if is_ratio else "difference",
        columns=columns,
        rows=rows,
        values=values,
        limits=None,
        diverging=True,
        decades=is_ratio,
        title=f"{second.title} {'/' if is_ratio else _MINUS} {first.title}",
        runs=(*first.runs, *second.runs),
        alone=True,
    )


def _cells(drawn: HeatMap) -> dict[tuple[str, str], float | None]:
    return {
        (row, name): value
        for row, line in zip(drawn.rows, drawn.values, strict=True)
        for name, value in zip(drawn.columns, line, strict=True)
    }


def _change(first: float | None, second: float | None, is_ratio: bool) -> float | None:
    if first is None or second is None:
        return None
    return second / first if is_ratio else second - first
