"""Figures of what was computed from checkpoints and captures, of one run or of several side by side."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from picolm.report import numbers
from picolm.report.figures import COLOURS, DASHES, Figure, Trace, View, steps_axis
from picolm.report.heatmap import HeatMap
from picolm.report.insides import Compared, Insides, Kinship, Likeness, Picture, Spectra
from picolm.report.overlay import overlaid
from picolm.report.panels import side_by_side
from picolm.report.series import Series

_SATURATED = 0.02
"""Share of the probabilities that have the last colour: the first tokens of a row have few keys to attend to."""
_CKA = (
    "Centered kernel alignment (CKA) of the activations at two steps, linear and debiased: 1 where they are the same "
    "but for a rotation and a scale, about 0 where they have nothing in common."
)
_KINSHIP = "Linear debiased CKA of the activations of two runs that were shown the same rows, at steps that both have."
_SPECTRA = "All singular values of a matrix, from the largest to the smallest."
_ATTENTION = (
    "Probabilities of one row of text: queries down, keys across. The largest "
    f"{_SATURATED:.0%} have the same colour; hovering says their values."
)
_SINGULAR_VALUE: dict[str, Any] = {
    "title": {"text": "singular value"},
    "type": "log",
    "exponentformat": "power",
    "dtick": 1,
}
_INDEX: dict[str, Any] = {"title": {"text": "index"}, "rangemode": "tozero"}
Item = TypeVar("Item")


def inside_figures(compared: Compared, called: Sequence[str]) -> list[Figure]:
    """CKA of each checkpoint with each and of run with run, spectra, attention.

    Args:
        compared: what was computed; empty where nothing was.
        called: names of the runs; of one run the name is not shown.
    """
    if not compared.of_runs:
        return []
    names = list(called) if len(called) > 1 else [""]
    spectra = _spectra(compared.of_runs, names) if len(names) > 1 else _over_time(compared.of_runs[0])
    title = "Singular values" if len(names) > 1 else "Singular values over time"
    built = (
        ("cka", "CKA of each step with each", _likeness(compared.of_runs, names), _CKA),
        ("between", "CKA of run with run at equal steps", _kinships(compared.kinships, names), _KINSHIP),
        ("spectra", title, spectra, _SPECTRA),
        ("attention", "Attention", _pictures(compared.of_runs, names), _ATTENTION),
    )
    return [Figure(f"inside-{key}", title, views, note=note) for key, title, views, note in built if views]


def _likeness(of_runs: Sequence[Insides], names: Sequence[str]) -> list[View]:
    views = []
    found = _by(lambda one: (one.site, one.probe), [insides.likeness for insides in of_runs])
    for (site, probe), of in found.items():
        drawn = side_by_side([_step_by_step(one, *_whose(run, names)) for run, one in of.items()])
        across, up = drawn[0].axes
        views.append(View(_site(site, probe, {probe for _, probe in found}), drawn, up, across))
    return views


def _step_by_step(one: Likeness, title: str, runs: tuple[int, ...]) -> HeatMap:
    steps = [str(step) for step in one.steps]
    return HeatMap("CKA", steps, steps, one.values, row="step", limits=(0.0, 1.0), square=True, title=title, runs=runs)


def _kinships(kinships: Sequence[Kinship], names: Sequence[str]) -> list[View]:
    """A curve for each pair of runs: in the colour of the second, and the first tells lines of one colour apart."""
    probes = {one.probe for one in kinships}
    views = []
    for site, probe in dict.fromkeys((one.site, one.probe) for one in kinships):
        traces = [
            Trace(
                " and ".join(names[run] for run in one.runs),
                Series(one.steps, one.values),
                f"series-{one.runs[1] % COLOURS + 1}",
                dash=DASHES[one.runs[0] % len(DASHES)],
                marked=True,
                runs=one.runs,
            )
            for one in kinships
            if (one.site, one.probe) == (site, probe)
        ]
        axis = {"title": {"text": "CKA"}}
        views.append(View(_site(site, probe, probes), traces, axis, steps_axis(traces)))
    return views


def _over_time(insides: Insides) -> list[View]:
    """A curve for each step, from early to late."""
    views = []
    for one in insides.spectra:
        last = max(1, len(one.steps) - 1)
        traces = [
            Trace(
                f"step {numbers.whole(step)}",
                _descending(values),
                f"ramp-{round(4 * place / last) + 1}",
                ".4~g",
                width=1.4,
            )
            for place, (step, values) in enumerate(zip(one.steps, one.values, strict=True))
        ]
        views.append(View(one.site, traces, _SINGULAR_VALUE, _INDEX))
    return views


def _spectra(of_runs: Sequence[Insides], names: Sequence[str]) -> list[View]:
    """A curve for each run: after the last step of each, then after each step that two runs have."""
    views = []
    for site, of in _by(lambda one: one.site, [insides.spectra for insides in of_runs]).items():
        steps = [step for one in of.values() for step in one.steps]
        shared = sorted({step for step in steps if steps.count(step) > 1})
        lasts = {one.steps[-1] for one in of.values()}
        if len(lasts) > 1:
            views.append(_at(of, names, f"{site}, last step of each", None))
        views += [_at(of, names, f"{site}, step {numbers.whole(step)}", step) for step in reversed(shared)]
    return views


def _at(of: dict[int, Spectra], names: Sequence[str], title: str, step: int | None) -> View:
    curves = [Series([], [])] * len(names)
    called = list(names)
    for run, one in of.items():
        chosen = one.steps[-1] if step is None else step
        if chosen in one.steps:
            curves[run] = _descending(one.values[one.steps.index(chosen)])
        if step is None:
            called[run] = f"{names[run]}, step {numbers.whole(chosen)}"
    return View(title, overlaid(called, curves, ".4~g", marked=False), _SINGULAR_VALUE, _INDEX)


def _descending(values: Sequence[float | None]) -> Series:
    # A logarithmic axis has no place for 0.
    return Series(list(range(1, len(values) + 1)), [value if value else None for value in values])


def _pictures(of_runs: Sequence[Insides], names: Sequence[str]) -> list[View]:
    found = _by(lambda one: (one.layer, one.head, one.probe), [insides.pictures for insides in of_runs])
    views = []
    for (layer, head, probe), of in found.items():
        brightest = max(_brightest(one) for one in of.values())
        # Heads of two runs have nothing to do with each other: their difference would tell nothing.
        drawn = side_by_side(
            [_pattern(one, brightest, *_whose(run, names)) for run, one in of.items()], differences=False
        )
        steps = {one.step for one in of.values()}
        after = f", step {numbers.whole(steps.pop())}" if len(steps) == 1 else ", last captured step of each"
        across, up = drawn[0].axes
        views.append(View(f"layer {layer}, head {head}, {probe}{after}", drawn, up, across))
    return views


def _pattern(one: Picture, brightest: float, title: str, runs: tuple[int, ...]) -> HeatMap:
    return HeatMap(
        "probability",
        one.keys,
        one.queries,
        one.values,
        "key",
        "query",
        limits=(0.0, brightest),
        square=True,
        title=title,
        runs=runs,
    )


def _brightest(picture: Picture) -> float:
    there = sorted(value for row in picture.values for value in row if value)
    return there[int((1 - _SATURATED) * (len(there) - 1))] if there else 1.0


def _by(key: Callable[[Item], Any], of_runs: Sequence[Sequence[Item]]) -> dict[Any, dict[int, Item]]:
    """Sort what the runs have by what it is, then by run."""
    found: dict[Hashable, dict[int, Item]] = {}
    for run, items in enumerate(of_runs):
        for item in items:
            found.setdefault(key(item), {})[run] = item
    return found


def _whose(run: int, names: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    return (names[run], (run,)) if len(names) > 1 else ("", ())


def _site(site: str, probe: str, probes: set[str]) -> str:
    return f"{site}, {probe}" if len(probes) > 1 else site
