"""Heat maps on paper: one, or those of several runs side by side with one bar of colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from picolm.report.heatmap import HeatMap
from picolm.report.markup import printable

ONE_COLUMN, TWO_COLUMNS = 3.3, 6.9
"""Inches: one column of a page with two, and both."""
_MOST_TICKS = 10
_MOST_IN_A_ROW = 4
_TITLE = 22
"""Letters of a run's name that fit over its map."""


def chosen(maps: Sequence[HeatMap]) -> list[HeatMap]:
    """The maps of all runs; with two runs also what they differ in, which with more would have to be chosen."""
    of_runs = [one for one in maps if not one.alone]
    return [*of_runs, *(one for one in maps if one.alone and len(of_runs) == 2)]


def size(maps: Sequence[HeatMap]) -> tuple[float, float]:
    """Width and height of the sheet for some maps, in inches."""
    first = maps[0]
    if len(maps) == 1:
        # Rows are read one by one where there are few, a square stays one.
        return ONE_COLUMN, 2.9 if first.square else _height(first)
    rows, columns = _grid(maps)
    width = ONE_COLUMN if columns < 3 and not _has_long_names(first) else TWO_COLUMNS
    if not first.square:
        return width, rows * (_height(first) + 0.2)
    # What names and bars leave to the maps.
    bars = len({one.alone for one in maps})
    names = 0.9 if _has_long_names(first) else 0.5
    return width, rows * ((width - names - 0.8 * bars) / columns + names + 0.3)


def plain(value: str) -> str:
    """A text as Matplotlib shows it as it is: a dollar sign would begin a formula."""
    return printable(value).replace("$", r"\$")


def draw_maps(sheet: Any, maps: Sequence[HeatMap]) -> None:
    """Draw maps into a Matplotlib figure: those of one scale share a bar, the layers of all stand at one height."""
    rows, columns = _grid(maps)
    axes = sheet.subplots(rows, columns, squeeze=False, sharey=not maps[0].square)
    drawn: dict[bool, list[Any]] = {}
    for place, one in enumerate(maps):
        row, column = divmod(place, columns)
        own = axes[row, column]
        image = _draw(own, one)
        own.set_xlabel(plain(one.column))
        if column == 0 or one.rows != maps[0].rows:
            own.set_ylabel(plain(one.row))
        else:
            own.tick_params(axis="y", labelleft=False)
        if one.title:
            short = one.title if len(one.title) <= _TITLE else f"{one.title[: _TITLE - 1]}…"
            own.set_title(plain(short), fontsize=7)
        drawn.setdefault(one.alone, []).append((own, image, one.name))
    for unused in axes.flat[len(maps) :]:
        unused.set_visible(False)
    for group in drawn.values():
        _, image, name = group[0]
        bar = sheet.colorbar(image, ax=[own for own, _, _ in group], pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label(plain(name))


def _draw(axes: Any, one: HeatMap) -> Any:
    import numpy as np
    from matplotlib.colors import LogNorm, Normalize

    values = np.array([[np.nan if value is None else value for value in row] for row in one.values], dtype=float)
    low, high = one.bounds
    image = axes.imshow(
        values,
        cmap={"RdBu": "RdBu_r", "Viridis": "viridis"}[one.colours],
        norm=LogNorm(low, high) if one.logarithmic else Normalize(low, high),
        aspect="equal" if one.square else "auto",
        origin="upper" if one.square else "lower",
        interpolation="nearest",
    )
    for axis, all_names in ((axes.xaxis, one.columns), (axes.yaxis, one.rows)):
        places = range(0, len(all_names), -(-len(all_names) // _MOST_TICKS) or 1)
        axis.set_ticks(list(places), [plain(all_names[place]) for place in places])
    if _has_long_names(one):
        axes.tick_params(axis="x", rotation=90, labelsize=6)
        axes.tick_params(axis="y", labelsize=6)
    elif max(map(len, one.columns), default=0) > 3:
        axes.tick_params(axis="x", rotation=45)
    return image


def _has_long_names(one: HeatMap) -> bool:
    """Whether columns are words, as tokens are."""
    return any(len(name) > 3 and not name.isdecimal() for name in one.columns)


def _height(one: HeatMap) -> float:
    return min(6.0, max(1.6, 0.8 + 0.13 * len(one.rows)))


def _grid(maps: Sequence[HeatMap]) -> tuple[int, int]:
    rows = -(-len(maps) // _MOST_IN_A_ROW)
    return rows, -(-len(maps) // rows)
