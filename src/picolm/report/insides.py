"""What is computed from checkpoints and captures for a page, as plain numbers: nothing here needs a tensor."""

from __future__ import annotations

from dataclasses import dataclass, field

from picolm.report import numbers
from picolm.report.figures import Figure, Trace, View
from picolm.report.heatmap import HeatMap
from picolm.report.series import Series

Rows = list[list[float | None]]
_SATURATED = 0.02
"""Share of the probabilities that have the last colour: the first tokens of a row have few keys to attend to."""
_ATTENTION = (
    "Probabilities of one row of text: queries down, keys across. The largest "
    f"{_SATURATED:.0%} have the same colour; hovering says their values."
)


@dataclass(frozen=True)
class Likeness:
    """How alike activations of one site are at each step and at each other: [steps][steps]."""

    site: str
    probe: str
    steps: list[int]
    values: Rows


@dataclass(frozen=True)
class Spectra:
    """Singular values of one matrix at each step, descending: [steps][values]."""

    site: str
    steps: list[int]
    values: Rows


@dataclass(frozen=True)
class Picture:
    """Attention of one head on one row of a probe: [queries][keys]."""

    layer: int
    head: int
    probe: str
    step: int
    queries: list[str]
    keys: list[str]
    values: Rows


@dataclass(frozen=True)
class Insides:
    """What was computed, and a sentence for each thing that was left out."""

    likeness: list[Likeness] = field(default_factory=list)
    spectra: list[Spectra] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def inside_figures(insides: Insides) -> list[Figure]:
    """CKA of each checkpoint with each, spectra over time, attention."""
    built = (
        ("cka", "CKA of each step with each", _likeness(insides), "Debiased linear CKA of the activations of a probe."),
        ("spectra", "Singular values over time", _spectra(insides), ""),
        ("attention", "Attention", _pictures(insides), _ATTENTION),
    )
    return [Figure(f"inside-{key}", title, views, note=note) for key, title, views, note in built if views]


def _likeness(insides: Insides) -> list[View]:
    several = len({one.probe for one in insides.likeness}) > 1
    views = []
    for one in insides.likeness:
        steps = [str(step) for step in one.steps]
        drawn = HeatMap("CKA", steps, steps, one.values, row="step", limits=(0.0, 1.0), square=True)
        across, up = drawn.axes
        views.append(View(f"{one.site}, {one.probe}" if several else one.site, [drawn], up, across))
    return views


def _spectra(insides: Insides) -> list[View]:
    axis = {"title": {"text": "singular value"}, "type": "log", "exponentformat": "power", "dtick": 1}
    across = {"title": {"text": "index"}, "rangemode": "tozero"}
    views = []
    for one in insides.spectra:
        last = max(1, len(one.steps) - 1)
        traces = [
            Trace(
                f"step {numbers.whole(step)}",
                Series(list(range(1, len(values) + 1)), [value if value else None for value in values]),
                f"ramp-{round(4 * place / last) + 1}",
                ".4~g",
                width=1.4,
            )
            for place, (step, values) in enumerate(zip(one.steps, one.values, strict=True))
        ]
        views.append(View(one.site, traces, axis, across))
    return views


def _pictures(insides: Insides) -> list[View]:
    views = []
    for one in insides.pictures:
        drawn = HeatMap(
            "probability", one.keys, one.queries, one.values, "key", "query", limits=(0.0, _brightest(one)), square=True
        )
        across, up = drawn.axes
        title = f"layer {one.layer}, head {one.head}, {one.probe}, step {numbers.whole(one.step)}"
        views.append(View(title, [drawn], up, across))
    return views


def _brightest(picture: Picture) -> float:
    there = sorted(value for row in picture.values for value in row if value)
    return there[int((1 - _SATURATED) * (len(there) - 1))] if there else 1.0
