"""Learning curves of an experiment: every run thin, the mean of each arm with its band, beneath what they differ in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from picolm.experiments.findings import CurvePanel, Findings
from picolm.experiments.statistics.bands import Band
from picolm.experiments.statistics.curve import Curve
from picolm.report import numbers
from picolm.report.figures import COLOURS, LOGARITHMIC_STEPS, STEPS, Drawn, Figure, Trace, View
from picolm.report.markup import Markup, data_table, element, label
from picolm.report.overlay import dash
from picolm.report.ribbon import Ribbon
from picolm.report.series import Series, number

_MINUS = "\u2212"
_THIN = 600
"""Points of a single run: there may be many runs."""


def curve_figures(findings: Findings) -> list[Figure]:
    """A figure for each quantity and size that has a curve."""
    return [_figure(findings, panel, place) for place, panel in enumerate(findings.panels) if panel.runs]


def area_table(findings: Findings) -> Markup:
    """Mean differences along the curves: areas between them, divided by the length of the axis."""
    rows = []
    for panel in findings.panels:
        for arm, area in panel.areas.items():
            interval = area.estimate.interval(1 - findings.plan.confidence)
            width = abs(area.estimate.value) / 10 if interval is None else interval.high - interval.low
            digits = numbers.decimals(width)
            ends = (
                ""
                if interval is None
                else f"{numbers.exact(interval.low, digits, True)} to {numbers.exact(interval.high, digits, True)}"
            )
            value = numbers.exact(area.estimate.value, digits, True)
            rows.append(
                [element("span", _title(panel), class_="measure"), arm, value, ends, str(len(area.differences))]
            )
    level = numbers.percent(findings.plan.confidence)
    return (
        data_table(("Curve", "Arm", "Mean difference", f"{level} interval", "Pairs"), rows, (2, 3, 4))
        if rows
        else Markup()
    )


def colour_of(arm: int) -> str:
    """The colour of an arm, by its place in the plan."""
    return f"series-{arm % COLOURS + 1}"


def _title(panel: CurvePanel) -> str:
    where = f", size {panel.size}" if panel.size else ""
    return f"{panel.words} over {panel.over}{where}"


def _figure(findings: Findings, panel: CurvePanel, place: int) -> Figure:
    arms = list(findings.plan.arms)
    traces = [trace for arm, name in enumerate(arms) for trace in _of_arm(panel, name, arm)]
    if panel.past is not None:
        traces.insert(0, Trace("common past", _series(panel.past), "ink-soft", dash="dot"))
    below = [trace for arm, name in enumerate(arms) for trace in _difference(panel, name, arm, findings.plan.control)]
    lower = {"title": {"text": "difference"}, "zeroline": True, "nticks": 5} if below else None
    upper = {"title": {"text": label(panel.words)}}
    drawn, title = [*traces, *below], {"title": {"text": panel.over}}
    views = [
        View("Linear", drawn, upper, {**STEPS, **title}, lower=lower),
        View("Logarithmic", drawn, upper, {**LOGARITHMIC_STEPS, **title}, lower=lower),
    ]
    if late := _late(panel):
        across, up = late
        views.append(View("Second half", drawn, {**upper, **up}, {**STEPS, **title, **across}, lower=lower))
    level = numbers.percent(findings.plan.confidence)
    note = f"Thin: every run. Thick: the mean of each arm, with pointwise {level} intervals where there are two runs."
    if below:
        note += f" Beneath: the mean of seed-paired differences, arm {_MINUS} {findings.plan.control}."
    return Figure(f"curves-{place}", _title(panel), views, note)


def _late(panel: CurvePanel) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Ranges of both axes that show the second half: after a long fall, arms are told apart there alone."""
    curves = [curve for of_arm in panel.runs.values() for curve in of_arm.values()]
    end = max(float(curve.x[-1]) for curve in curves)
    heights = [float(y) for curve in curves for y in curve.y[curve.x >= end / 2] if np.isfinite(y)]
    if not heights or not min(heights) < max(heights):
        return None
    room = 0.05 * (max(heights) - min(heights))
    return {"range": [end / 2, end]}, {"range": [min(heights) - room, max(heights) + room]}


def _of_arm(panel: CurvePanel, name: str, arm: int) -> Iterator[Drawn]:
    colour, band = colour_of(arm), panel.bands.get(name)
    if band is not None and (ribbon := Ribbon.of(band, name, colour)):
        yield ribbon
    for repetition, curve in panel.runs.get(name, {}).items():
        yield Trace(
            f"{name}, {repetition}",
            _series(curve).thinned(_THIN),
            colour,
            width=0.7,
            group=name,
            listed=False,
            dash=dash(arm),
        )
    if band is not None:
        yield Trace(name, _mean(band), colour, width=2.5, group=name, dash=dash(arm))


def _difference(panel: CurvePanel, name: str, arm: int, control: str) -> Iterator[Drawn]:
    if (band := panel.differences.get(name)) is None:
        return
    if ribbon := Ribbon.of(band, name, colour_of(arm), lower=True):
        yield ribbon
    title = f"{name} {_MINUS} {control}"
    yield Trace(title, _mean(band), colour_of(arm), ".4~g", group=name, listed=False, lower=True, dash=dash(arm))


def _series(curve: Curve) -> Series:
    return Series(curve.x.tolist(), [number(value) for value in curve.y.tolist()])


def _mean(band: Band) -> Series:
    return Series(band.x.tolist(), [number(value) for value in band.mean.tolist()])
