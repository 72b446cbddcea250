"""Each number seed by seed: a line for each pair across the arms, and the differences as dots."""

from __future__ import annotations

from collections.abc import Sequence

from picolm.experiments.findings import Effect, Findings
from picolm.report import numbers
from picolm.report.dots import Dots, dot_axes, shift
from picolm.report.figures import COLOURS, Figure, Trace, View
from picolm.report.markup import label
from picolm.report.series import Series, number

_MEAN = "series-2"
_LONGEST, _LEVEL = 14, 28
"""Characters of one name below an axis; of all of them, side by side on a telephone."""
_FEW_SEEDS = 6
"""Up to which a legend tells seeds apart; of more, hovering does."""


def pair_figures(findings: Findings) -> list[Figure]:
    """The values of each number, runs of the same seeds joined; the differences of these pairs with their mean."""
    # What was predicted is shown at first.
    effects = sorted((one for one in findings.effects if one.difference), key=lambda one: not one.predicted)
    named = list(dict.fromkeys((one.words, one.size) for one in effects))
    values, differences = [], []
    for words, size in named:
        title = f"{words}, {size}" if size else words
        own = [one for one in effects if (one.words, one.size) == (words, size)]
        if traces := _joined(findings, words, size):
            values.append(View(title, traces, {"title": {"text": label(words)}}, _arms(list(findings.plan.arms))))
        differences.append(_differences(title, own, findings))
    level = numbers.percent(findings.plan.confidence)
    figures = []
    if values:
        note = "A line joins runs of the same seeds. The mean is that of the repetitions that all arms have."
        figures.append(Figure("pairs", "Values by arm", values, note))
    if differences:
        note = (
            f"A mark for each pair, and the mean with its {level} interval, not adjusted. Left of 0 the arm is lower."
        )
        figures.append(Figure("paired-differences", "Paired differences", differences, note))
    return figures


def _joined(findings: Findings, words: str, size: str) -> list[Trace]:
    arms = list(findings.plan.arms)
    repetitions = list(dict.fromkeys(run.repetition for run in findings.runs))
    found = {
        (run.arm, run.repetition): number(run.values[words].value)
        for run in findings.runs
        # A censored place is how far the run went, not where it got there.
        if run.size == size and words in run.values and not run.values[words].censored
    }
    lines = [
        Trace(repetition, series, "ink-soft", ".5~g", width=1.0, marked=True, listed=False)
        for repetition in repetitions
        if (series := Series(list(range(len(arms))), [found.get((arm, repetition)) for arm in arms]))
    ]
    # A repetition that one arm lacks would move the mean of the others, and look like an effect.
    whole = [one for one in repetitions if all(found.get((arm, one)) is not None for arm in arms)]
    if not whole:
        return lines
    means = [sum(found[arm, one] or 0.0 for one in whole) / len(whole) for arm in arms]
    mean = Trace("mean", Series(list(range(len(arms))), list(means)), _MEAN, ".5~g", width=2.5, marked=True)
    return [*lines, mean]


def _arms(arms: Sequence[str]) -> dict[str, object]:
    names = [_short(arm) for arm in arms]
    # Leaning to the left, the last name stays within the plot.
    leaning = {"tickangle": -30} if sum(map(len, names)) > _LEVEL else {}
    return {
        **leaning,
        "title": {"text": ""},
        "tickmode": "array",
        "tickvals": list(range(len(arms))),
        "ticktext": [label(name) for name in names],
        "ticklabeloverflow": "allow",
        "range": [-0.4, len(arms) - 0.6],
    }


def _short(name: str) -> str:
    """Names of arms often differ at their ends alone."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}\u2026{name[-_LONGEST // 2 + 1 :]}"


def _differences(title: str, effects: Sequence[Effect], findings: Findings) -> View:
    rows = [effect.arm for effect in effects]
    found = [effect.difference for effect in effects if effect.difference]
    seeds = list(dict.fromkeys(seed for one in found for seed in one.differences))
    intervals = [one.estimate.interval(1 - findings.plan.confidence) for one in found]
    widths = [None if interval is None else (interval.high - interval.low) / 2 for interval in intervals]
    dots = [
        Dots(
            str(seed),
            rows,
            [one.differences.get(seed) for one in found],
            [None] * len(rows),
            place,
            shift(place, len(seeds) + 1),
            f"series-{place % COLOURS + 1}",
            listed=len(seeds) <= _FEW_SEEDS,
        )
        for place, seed in enumerate(seeds)
    ]
    mean = Dots(
        "mean", rows, [one.estimate.value for one in found], widths, 0, shift(len(seeds), len(seeds) + 1), "ink"
    )
    quantity = f"difference from {label(findings.plan.control)}"
    across, up = dot_axes(quantity, rows)
    return View(title, [*dots, mean], up, {**across, "zeroline": True, "rangemode": "tozero"})
