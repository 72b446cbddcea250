"""Figures for papers: each view as PNG and SVG, one column of a paper wide, in colours that everyone tells apart."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from picolm.errors import PicoLMError
from picolm.report.dots import Dots
from picolm.report.figures import Figure, Trace, View
from picolm.report.heatmap import HeatMap
from picolm.report.paper_maps import ONE_COLUMN, chosen, draw_maps, plain, size
from picolm.report.ribbon import Ribbon
from picolm.report.sweep import Points
from picolm.runs.durable import make_parents, write_bytes

_MAKER = "PicoLM"
_HALF = 21
"""Characters of a legend's name that half of a column has room for."""
_OKABE_ITO = {
    "series-1": "#0072B2",
    "series-2": "#D55E00",
    "series-3": "#009E73",
    "series-4": "#CC79A7",
    "series-5": "#E69F00",
    "series-6": "#56B4E9",
    "series-7": "#000000",
    "series-faint": "#B9D3E6",
    "ink": "#000000",
    "ink-soft": "#5A6472",
}
_RAMP = ("#440154", "#3B528B", "#21918C", "#35A065", "#7FAE1F")
_COLOURS = {**_OKABE_ITO, **{f"ramp-{place}": colour for place, colour in enumerate(_RAMP, start=1)}}
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_SYMBOLS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "x": "X",
    "star": "*",
}
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.markersize": 2.5,
    "legend.frameon": False,
    # Text stays text in an SVG, and the same figure gives the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": _MAKER,
}


def write_figures(
    figures: Sequence[Figure], folder: Path, progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[Path]:
    """Draw each view of each figure into a file `NAME.png` (300 dots per inch) and a file `NAME.svg`.

    Args:
        figures: of a run (`run_figures`), of several (`comparison_figures`) or of an experiment (`experiment_figures`).
        folder: where; made when it is not there.
        progress: is told (what, done, total).

    Returns:
        The files, in the order of the figures.

    Raises:
        PicoLMError: a file of one of these names is there that PicoLM has not made, or one cannot be written.
    """
    import matplotlib as mpl

    views = list(_named(figures))
    paths = [folder / f"{name}.{ending}" for name, _ in views for ending in ("png", "svg")]
    for path in paths:
        if path.exists() and _MAKER.encode() not in path.read_bytes()[:4096]:
            raise PicoLMError(f"{path} is there, and PicoLM has not made it; choose another folder for --figures")
    with mpl.rc_context(_STYLE):
        for place, (name, view) in enumerate(views):
            progress("figures, PNG and SVG", place, len(views))
            for ending, content in _drawn(view).items():
                make_parents(folder / f"{name}.{ending}")
                write_bytes(folder / f"{name}.{ending}", content)
    progress("figures, PNG and SVG", len(views), len(views))
    return paths


def _named(figures: Sequence[Figure]) -> Iterator[tuple[str, View]]:
    taken: set[str] = set()
    for figure in figures:
        # What is numbered in the page has its name as its title.
        numbered = figure.key.startswith(("map-", "metric-", "evaluation-", "curves-", "trend-", "sweep-"))
        stem = figure.title.partition(", layer by step")[0] if numbered else figure.key.removeprefix("inside-")
        for view in figure.views:
            parts = (
                (stem, view.label) if len(figure.views) > 1 or figure.key.startswith(("map-", "metric-")) else (stem,)
            )
            name = "-".join(re.sub(r"[^A-Za-z0-9_]+", "-", part).strip("-") for part in parts)[:120].lower()
            number, free = 2, name
            while free in taken:
                number, free = number + 1, f"{name}-{number}"
            taken.add(free)
            yield free, view


def _drawn(view: View) -> dict[str, bytes]:
    """The view as files, by ending."""
    from matplotlib.figure import Figure as Sheet

    maps = chosen([trace for trace in view.traces if isinstance(trace, HeatMap)])
    sheet = Sheet(figsize=size(maps) if maps else (ONE_COLUMN, _height(view)), layout="constrained")
    if maps:
        draw_maps(sheet, maps)
    else:
        _draw_panels(sheet, view)
    found = {}
    for ending, facts in (("png", {"Software": _MAKER}), ("svg", {"Creator": _MAKER, "Date": None})):
        content = io.BytesIO()
        sheet.savefig(content, format=ending, dpi=300, metadata=facts)
        found[ending] = content.getvalue()
    return found


def _height(view: View) -> float:
    entries = sum(isinstance(trace, Dots | Trace) and trace.listed for trace in view.traces)
    legend = 0.16 * (entries // _columns(view) if entries > 1 else 0)
    rows = [len(view.yaxis["tickvals"]) for trace in view.traces if isinstance(trace, Dots | Points)]
    return legend + (0.8 + 0.15 * rows[0] if rows else 3.1 if view.lower else 2.2)


def _columns(view: View) -> int:
    """Columns of the legend: names that are longer than half of the width stand below each other."""
    names = [trace.name for trace in view.traces if isinstance(trace, Dots | Trace) and trace.listed]
    return 1 if max(map(len, names), default=0) > _HALF else 2


def _draw_panels(sheet: Any, view: View) -> None:
    """One panel, or two on the same horizontal axis."""
    if view.lower is None:
        upper = beneath = sheet.add_subplot()
    else:
        upper, beneath = sheet.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for trace in view.traces:
        if isinstance(trace, Trace):
            panel = beneath if trace.lower else upper
            _draw_curve(panel, trace, logarithmic=view.xaxis.get("type") == "log")
        elif isinstance(trace, Ribbon):
            panel = beneath if trace.lower else upper
            _fill(panel, trace, logarithmic=view.xaxis.get("type") == "log")
        elif isinstance(trace, Dots):
            _draw_dots(upper, trace)
            upper.locator_params(axis="x", nbins=5)
        elif isinstance(trace, Points):
            upper.plot(trace.values, trace.heights, "o", markersize=3, color=_COLOURS["series-1"])
    _dress(upper, view)
    if view.lower is not None:
        _dress(beneath, replace(view, yaxis=view.lower))
        upper.label_outer()
    if len(view.traces) > 1:
        sheet.legend(loc="outside upper center", ncols=_columns(view))


def _draw_dots(axes: Any, one: Dots) -> None:
    axes.errorbar(
        [float("nan") if value is None else value for value in one.values],
        one.heights,
        xerr=[error or 0.0 for error in one.errors],
        fmt=_SYMBOLS[one.symbol],
        markersize=3,
        elinewidth=0.6,
        color=_COLOURS[one.colour],
        label=plain(one.name) if one.listed else "_nolegend_",
    )


def _draw_curve(axes: Any, trace: Trace, *, logarithmic: bool) -> None:
    points = trace.series.thinned()
    # As on the page: step 0 has no place on a logarithmic axis.
    pairs = [pair for pair in zip(points.steps, points.values, strict=True) if pair[0] > 0 or not logarithmic]
    axes.plot(
        [step for step, _ in pairs],
        [float("nan") if value is None else value for _, value in pairs],
        color=_COLOURS[trace.colour],
        linestyle=_DASHES[trace.dash],
        linewidth=0.6 * trace.width,
        marker="o" if trace.marked else None,
        label=plain(trace.name) if trace.listed else "_nolegend_",
    )


def _fill(axes: Any, ribbon: Ribbon, *, logarithmic: bool) -> None:
    ends = zip(ribbon.x, ribbon.low, ribbon.high, strict=True)
    x, low, high = zip(*[point for point in ends if point[0] > 0 or not logarithmic], strict=True)
    axes.fill_between(x, low, high, color=_COLOURS[ribbon.colour], alpha=0.18, linewidth=0)


def _dress(axes: Any, view: View) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for axis, asked, set_scale in (
        (axes.xaxis, view.xaxis, axes.set_xscale),
        (axes.yaxis, view.yaxis, axes.set_yscale),
    ):
        axis.set_label_text(plain(html.unescape(str(asked.get("title", {}).get("text", "")))))
        if asked.get("type") == "log" and axes.lines:
            set_scale("log")
            if asked.get("tickformat") == "~g" and asked.get("dtick") == "D2":
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter(NullFormatter())
        if "tickvals" in asked:
            names = [plain(html.unescape(name)) for name in asked["ticktext"]]
            leaning = {"rotation": -asked["tickangle"], "ha": "right"} if "tickangle" in asked else {}
            axis.set_ticks(asked["tickvals"], names, **leaning)
            axis.set_minor_formatter(NullFormatter())
        if "range" in asked:
            axis.set_view_interval(*asked["range"], ignore=True)
        if asked.get("zeroline"):
            (axes.axvline if axis is axes.xaxis else axes.axhline)(0, color="#5A6472", linewidth=0.6, zorder=0)
