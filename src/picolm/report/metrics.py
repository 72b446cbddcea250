"""What was measured inside models: layer by step heat maps, and curves; of one run, or of several side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from picolm.report.figures import COLOURS, DASHES, Figure, Trace, View, steps_axis
from picolm.report.heatmap import HeatMap
from picolm.report.markup import label
from picolm.report.measured import Block, Place, blocks, by_metric, names
from picolm.report.overlay import overlaid, titles
from picolm.report.panels import side_by_side
from picolm.report.record import Record
from picolm.report.series import Series, spread

_MOST_CELLS = 20_000
"""Of the heat maps that stand side by side: a page that holds many must still open."""
_MOST_VIEWS = 60
"""Curves of one metric from which on layers are no longer shown one by one."""
Row = tuple[str, Callable[[Block], Sequence[float | None]]]
"""What a row of a heat map is called, and its values in a run."""


def metric_figures(records: Sequence[Record]) -> list[Figure]:
    """Draw each metric; views are the sites, with the mean of the heads and head by head.

    Args:
        records: of the runs. Of one, each metric is one figure; of several, one of maps and one of curves.
    """
    by_run = [{block.key: block for block in blocks(record.metrics)} for record in records]
    # In the order of the first run, then what only later ones have.
    every = list({key: block for found in by_run for key, block in found.items()}.values())
    called = titles(records)
    figures = []
    for place, (name, own) in enumerate(by_metric(every).items()):
        sites = [
            (title, {run: found[block.key] for run, found in enumerate(by_run) if block.key in found})
            for block, title in zip(own, names(own), strict=True)
        ]
        if len(records) == 1:
            views = [view for title, found in sites for view in _of_one(found[0], title)]
            figures.append(Figure(f"metric-{place}", name, views, note=about(name)))
            continue
        if maps := [view for title, found in sites for view in _maps(found, title, called)]:
            figures.append(Figure(f"map-{place}", f"{name}, layer by step", maps))
        figures.append(Figure(f"metric-{place}", name, _curves(sites, called), note=about(name)))
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


def _of_one(block: Block, title: str) -> list[View]:
    if not block.layers:
        return [_lines(block, title)]
    if len(block.steps) == 1:
        return [_profile(block, title)]
    return _maps({0: block}, title, [""])


def _maps(found: Mapping[int, Block], title: str, called: Sequence[str]) -> list[View]:
    """The maps of a site: of each run that has layers and steps there."""
    there = {run: block for run, block in found.items() if block.layers and len(block.steps) > 1}
    if not there:
        return []
    heads = any(block.heads for block in there.values())
    layers = sorted({layer for block in there.values() for layer in block.layers})
    rows: list[Row] = [(str(layer), partial(_of_layer, layer=layer)) for layer in layers]
    views = [_map_view(there, f"{title}, mean of heads" if heads else title, "layer", rows, called)]
    if heads:
        places = dict.fromkeys(place for block in there.values() for place in block.places)
        ordered = sorted(places, key=lambda place: tuple(-1 if part is None else part for part in place))
        each: list[Row] = [(_head(place), partial(_of_place, place=place)) for place in ordered]
        views.append(_map_view(there, f"{title}, each head", "layer.head", each, called))
    return views


def _map_view(found: Mapping[int, Block], title: str, row: str, rows: Sequence[Row], called: Sequence[str]) -> View:
    steps = sorted({step for block in found.values() for step in block.steps})
    shown = set(spread(steps, max(2, _MOST_CELLS // (len(rows) * len(found)))))
    if len(shown) < len(steps):
        title = f"{title}, {len(shown)} of {len(steps)} steps"
    metric = next(iter(found.values())).metric
    drawn = []
    for run, block in found.items():
        kept = [place for place, step in enumerate(block.steps) if step in shown]
        values = [(name, of(block)) for name, of in rows]
        drawn.append(
            HeatMap(
                metric,
                [str(block.steps[place]) for place in kept],
                [name for name, _ in values],
                [[line[place] for place in kept] for _, line in values],
                row=row,
                diverging=metric_range(metric.partition(".")[0]) == (-1.0, 1.0),
                title=called[run] if len(called) > 1 else "",
                runs=(run,) if len(called) > 1 else (),
            )
        )
    across, up = drawn[0].axes
    return View(title, side_by_side(drawn), up, across)


def _of_layer(block: Block, layer: int) -> Sequence[float | None]:
    return block.of_layer(layer).values


def _of_place(block: Block, place: Place) -> Sequence[float | None]:
    curve = block.values.get(place, {})
    return [curve.get(step) for step in block.steps]


def _curves(sites: Sequence[tuple[str, Mapping[int, Block]]], called: Sequence[str]) -> list[View]:
    """The mean over layers and heads at each kind of site, and each layer where these are not too many."""
    numbered = [sorted({layer for block in found.values() for layer in block.layers}) for _, found in sites]
    layered = len(sites) + sum(map(len, numbered)) <= _MOST_VIEWS
    views = []
    for (title, found), layers in zip(sites, numbered, strict=True):
        several = len(layers) > 1
        views.append(_overlay(found, f"{title}, mean of layers" if several else title, Block.overall, called))
        for layer in layers if several and layered else ():
            views.append(_overlay(found, f"{title}, layer {layer}", partial(Block.of_layer, layer=layer), called))
    return views


def _overlay(found: Mapping[int, Block], title: str, curve: Callable[[Block], Series], called: Sequence[str]) -> View:
    curves = [curve(found[run]) if run in found else Series([], []) for run in range(len(called))]
    traces = overlaid(called, curves, ".6~g")
    metric = next(iter(found.values())).metric
    return View(title, traces, {"title": {"text": label(metric)}}, steps_axis(traces))


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
