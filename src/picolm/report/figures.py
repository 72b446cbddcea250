"""The plots of a run as data. Colours are names of CSS variables; `theme.js` draws, in light or in dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from picolm.report.markup import label
from picolm.report.record import Record, table
from picolm.report.series import Series, number

COLOURS = 7
DASHES = ("solid", "dash", "dot", "dashdot")
STEPS: dict[str, Any] = {"title": {"text": "step"}, "tickformat": "~s", "rangemode": "tozero"}
LOGARITHMIC_STEPS: dict[str, Any] = {**STEPS, "type": "log", "rangemode": "normal", "dtick": 1}
_WIDE = 50


class Drawn(Protocol):
    """What a view shows: a curve or a heat map."""

    def as_plotly(self) -> dict[str, Any]:
        """Return what `theme.js` gives to Plotly."""


@dataclass(frozen=True)
class Trace:
    """One curve.

    Attributes:
        name: stands in the legend; escaped here.
        series: the points.
        colour: name of a CSS variable.
        decimals: how values are written on hovering, as a d3 format.
        style: Plotly attributes of the line.
        marked: whether each point has a mark.
        runs: places, among the runs of a page, of those of which it tells; it is shown while all of these are.
        group: curves that a click on one of them in the legend hides together.
        listed: whether it stands in the legend.
        lower: whether it stands in the lower of two panels.
    """

    name: str
    series: Series
    colour: str
    decimals: str = ".4f"
    width: float = 2.0
    dash: str = "solid"
    marked: bool = False
    runs: tuple[int, ...] = ()
    group: str = ""
    listed: bool = True
    lower: bool = False

    def as_plotly(self) -> dict[str, Any]:
        """Return the trace, light: values to 6 digits."""
        points = self.series.thinned()
        return {
            "type": "scatter",
            "name": label(self.name),
            "mode": "lines+markers" if self.marked else "lines",
            "x": points.steps,
            "y": [None if value is None else float(f"{value:.6g}") for value in points.values],
            "line": {"width": self.width, "dash": self.dash},
            "colour": self.colour,
            "hovertemplate": f"%{{y:{self.decimals}}}",
            **({"runs": list(self.runs)} if self.runs else {}),
            **({"legendgroup": label(self.group)} if self.group else {}),
            **({} if self.listed else {"showlegend": False}),
            **({"yaxis": "y2"} if self.lower else {}),
        }


@dataclass(frozen=True)
class View:
    """One way to look at a figure.

    Attributes:
        label: stands on the button that chooses it.
        traces: what is drawn.
        xaxis: Plotly attributes.
        yaxis: Plotly attributes.
        lower: of the vertical axis of a second panel beneath, which has the same horizontal one; None: there is none.
    """

    label: str
    traces: Sequence[Drawn]
    yaxis: dict[str, Any]
    xaxis: dict[str, Any]
    lower: dict[str, Any] | None = None


@dataclass(frozen=True)
class Figure:
    """A plot with one or more views.

    Attributes:
        key: identifies it in the page.
        title: stands over it.
        views: the first is shown at first; all can be chosen when there are more.
        note: stands below it.
    """

    key: str
    title: str
    views: Sequence[View]
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return what `theme.js` draws; a trace that several views share is written once."""
        traces = list({id(trace): trace for view in self.views for trace in view.traces}.values())
        places = {id(trace): place for place, trace in enumerate(traces)}
        return {
            "key": self.key,
            "title": self.title,
            "traces": [trace.as_plotly() for trace in traces],
            "views": [
                {
                    "label": view.label,
                    "traces": [places[id(trace)] for trace in view.traces],
                    "xaxis": view.xaxis,
                    "yaxis": view.yaxis,
                    **({"lower": view.lower} if view.lower else {}),
                }
                for view in self.views
            ],
        }


def steps_axis(traces: Sequence[Trace]) -> dict[str, Any]:
    """The axis of figures that are measured now and then: logarithmic where the steps span decades."""
    steps = [step for trace in traces for step in trace.series.steps if step > 0]
    # Learning is quick at first: the untrained model at step 0 is what such an axis leaves out.
    return LOGARITHMIC_STEPS if steps and max(steps) / min(steps) >= _WIDE else STEPS


def _past(record: Record) -> list[Trace]:
    """The curves from before a fork, ended where the run's own begin."""
    parent = str(table(record.identity, "parent").get("name", ""))
    train = Series.of((line for line in record.past if line.get("event") == "train"), "loss")
    validation = Series.of((line for line in record.past if line.get("event") == "validation"), "loss")
    traces = []
    if train:
        smoothed = train.smoothed(max(1, len(train.steps) // 50))
        traces.append(Trace(f"train, of {parent} before the fork", smoothed, "series-4", dash="dot"))
    if validation:
        traces.append(Trace(f"validation, of {parent}", validation, "series-5", dash="dot", marked=True))
    return traces


def loss_figure(record: Record) -> Figure | None:
    """Training loss, raw and smoothed, with validation points over it; steps linear or logarithmic."""
    train = Series.of(record.train, "loss")
    validation = Series.of(record.validation, "loss")
    traces = _past(record)
    if train:
        half_width = max(1, len(train.steps) // 50)
        traces.append(Trace("train", train, "series-faint", width=1.0))
        traces.append(Trace("train, smoothed", train.smoothed(half_width), "series-1"))
    if validation:
        traces.append(Trace("validation", validation, "series-2", marked=True))
    if averaged := Series.of(record.validation, "ema", "loss"):
        traces.append(Trace("validation, averaged weights", averaged, "series-3", marked=True))
    if not traces:
        return None
    yaxis = {"title": {"text": loss_unit(record)}}
    return Figure(
        "loss",
        "Training loss at every logged step, its local mean, and validation loss",
        [
            View("Linear steps", traces, yaxis, STEPS),
            View("Logarithmic steps", traces, yaxis, LOGARITHMIC_STEPS),
        ],
    )


def domain_figure(record: Record) -> Figure | None:
    """Validation loss per domain; bits per byte and perplexity where they were measured."""
    measures: tuple[tuple[str, str, str, str], ...] = (
        ("Loss", "loss", loss_unit(record), ".4f"),
        ("Bits per byte", "bits_per_byte", "bits per byte", ".4f"),
        ("Perplexity", "perplexity", "perplexity", ",.2f"),
    )
    views = []
    for name, key, unit, decimals in measures:
        traces = [
            Trace(
                domain,
                series,
                f"series-{place % COLOURS + 1}",
                decimals,
                dash=DASHES[place // COLOURS % len(DASHES)],
                marked=True,
            )
            for place, domain in enumerate(record.domains)
            if (series := Series.of(record.validation, "domains", domain, key))
        ]
        if traces:
            axis = _logarithmic([trace.series for trace in traces]) if key == "perplexity" else {}
            views.append(View(name, traces, {"title": {"text": unit}, **axis}, STEPS))
    return Figure("domains", "Held-out documents of each domain", views) if views else None


def learning_rate_figure(record: Record) -> Figure | None:
    """Learning rate over steps."""
    series = Series.of(record.train, "learning_rate")
    axis = {"title": {"text": "learning rate"}, "exponentformat": "power", "rangemode": "tozero"}
    return _single("rate", "Learning rate", Trace("learning rate", series, "series-3", ".3~e"), axis=axis)


def gradient_figure(record: Record) -> Figure | None:
    """Norm of the gradient before clipping, and the norm at which it is clipped."""
    series = Series.of(record.train, "gradient_norm")
    traces = [Trace("gradient norm", series, "series-4", ".3~g", width=1.2)]
    clip = number(table(record.config, "training").get("gradient_clip"))
    if series and clip is not None:
        limit = Series([series.steps[0], series.steps[-1]], [clip, clip])
        traces.append(Trace("clipped to", limit, "ink-soft", ".3~g", width=1.2, dash="dash"))
    axis = {"title": {"text": "gradient norm"}, **_logarithmic([series])}
    return _single("gradient", "Gradient norm", *traces, axis=axis)


def speed_figure(record: Record) -> Figure | None:
    """Training tokens per second of wall-clock time."""
    series = Series.of(record.timings, "tokens_per_second")
    axis = {"title": {"text": "tokens / s"}, "tickformat": "~s", "rangemode": "tozero"}
    return _single("speed", "Speed", Trace("tokens / s", series, "series-5", ",.0f"), axis=axis)


def loss_unit(record: Record) -> str:
    """Say what the loss counts."""
    masked = table(record.config, "objective").get("kind") == "masked"
    return "loss (nats per masked token)" if masked else "loss (nats per token)"


def _logarithmic(curves: Sequence[Series]) -> dict[str, Any]:
    values = [value for curve in curves for value in curve.finite if value > 0]
    # Ticks at 1, 2, 5 of each power of ten; powers of ten alone where that would crowd.
    wide = bool(values) and max(values) / min(values) > 3000
    return {"type": "log", "tickformat": "~g", "dtick": 1 if wide else "D2"}


def _single(key: str, title: str, *traces: Trace, axis: dict[str, Any]) -> Figure | None:
    return Figure(key, title, [View(title, traces, axis, STEPS)]) if traces[0].series else None
