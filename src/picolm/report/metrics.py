"""What was measured inside the model: layer by step heat maps, curves where a site has no layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from picolm.report.figures import COLOURS, DASHES, Figure, Trace, View, steps_axis
from picolm.report.heatmap import HeatMap
from picolm.report.markup import label
from picolm.report.measured import Block, Place, blocks, by_metric, names
from picolm.report.record import Record
from picolm.report.series import Series, spread

_MOST_CELLS = 20_000
"""Of one heat map: a page that holds many must still open."""


def metric_figures(record: Record) -> list[Figure]:
    """A figure for each metric; its views are the sites, with the mean of the heads and head by head."""
    figures = []
    for place, (name, own) in enumerate(by_metric(blocks(record.metrics)).items()):
        limits = metric_range(name)
        views = [view for block, title in zip(own, names(own), strict=True) for view in _views(block, title, limits)]
        figures.append(Figure(f"metric-{place}", name, views, note=about(name)))
    return figures


def about(name: str) -> str:
    """Say what a metric is and within which values it lies; nothing of one that PicoLM does not know."""
    from picolm.analysis.metric import REGISTRY, metric

    if name not in REGISTRY:
        return ""
    found = metric(name)
    low, high = (_bound(value) for value in found.range)
    return f"{found.summary.rstrip('.')}. From {low} to {high}."


def metric_range(name: str) -> tuple[float, float] | None:
    """Within which values a metric lies; None of one that PicoLM does not know."""
    from picolm.analysis.metric import REGISTRY, metric

    return metric(name).range if name in REGISTRY else None


def _bound(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else "-∞" if value < 0 else "∞"


def _views(block: Block, title: str, limits: tuple[float, float] | None) -> list[View]:
    if not block.layers:
        return [_lines(block, title)]
    if len(block.steps) == 1:
        return [_profile(block, title)]
    diverging = limits == (-1.0, 1.0)
    mean = "mean of heads" if block.heads else ""
    rows: list[tuple[str, list[float | None]]] = [(str(layer), block.of_layer(layer).values) for layer in block.layers]
    views = [_map(block, ", ".join(filter(None, (title, mean))), "layer", rows, diverging)]
    if block.heads:
        each = [(_head(place), [block.values[place].get(step) for step in block.steps]) for place in block.places]
        views.append(_map(block, f"{title}, each head", "layer.head", each, diverging))
    return views


def _map(block: Block, title: str, row: str, rows: Sequence[tuple[str, list[float | None]]], diverging: bool) -> View:
    shown = spread(range(len(block.steps)), max(2, _MOST_CELLS // len(rows)))
    if len(shown) < len(block.steps):
        title = f"{title}, {len(shown)} of {len(block.steps)} steps"
    drawn = HeatMap(
        block.metric,
        [str(block.steps[place]) for place in shown],
        [name for name, _ in rows],
        [[values[place] for place in shown] for _, values in rows],
        row=row,
        diverging=diverging,
    )
    across, up = drawn.axes
    return View(title, [drawn], up, across)


def _lines(block: Block, title: str) -> View:
    """A curve for each head, or one."""
    traces = []
    for number, (place, curve) in enumerate(block.values.items()):
        steps = sorted(curve)
        name = block.metric if place[1] is None else f"head {place[1]}"
        traces.append(_trace(name, Series(steps, [curve[step] for step in steps]), number))
    return View(title, traces, {"title": {"text": label(block.metric)}}, steps_axis(traces))


def _profile(block: Block, title: str) -> View:
    """Values over layers, where there is one step."""
    curves = [block.mean(block.steps[0], layer) for layer in block.layers]
    trace = _trace(f"step {block.steps[0]}", Series(block.layers, curves), 0)
    axis = {"title": {"text": "layer"}, "dtick": max(1, len(block.layers) // 12)}
    return View(f"{title}, step {block.steps[0]}", [trace], {"title": {"text": label(block.metric)}}, axis)


def _trace(name: str, series: Series, place: int) -> Trace:
    colour, dash = f"series-{place % COLOURS + 1}", DASHES[place // COLOURS % len(DASHES)]
    return Trace(name, series, colour, ".6~g", dash=dash, marked=True)


def _head(place: Place) -> str:
    return ".".join("-" if part is None else str(part) for part in place)
