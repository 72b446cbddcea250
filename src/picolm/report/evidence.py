"""The tables behind the verdicts: noise floors, all effects, items, sizes, corrections, times to a value."""

from __future__ import annotations

from collections.abc import Sequence

from picolm.experiments.findings import Findings, Judged
from picolm.experiments.statistics.estimate import Estimate
from picolm.report import numbers
from picolm.report.markup import Markup, data_table, element
from picolm.report.verdicts import SIGNS, in_words


def noise_table(findings: Findings) -> Markup:
    """What seeds alone do to each number, in the baseline."""
    rows, seen = [], set()
    for effect in findings.effects:
        noise = effect.noise
        if noise is None or (effect.words, effect.size) in seen:
            continue
        seen.add((effect.words, effect.size))
        digits = numbers.decimals(noise.sd)
        spread = f"{numbers.exact(noise.sd_low, digits)} to {numbers.exact(noise.sd_high, digits)}"
        mean, sd = numbers.exact(noise.estimate.value, digits), numbers.exact(noise.sd, digits)
        rows.append(
            [element("span", effect.words, class_="measure"), effect.size, mean, sd, spread, str(len(noise.seeds))]
        )
    head = ("Number", "Size", "Mean", "Sd over seeds", "Interval of the sd", "Seeds")
    return _without_empty(head, rows, (2, 3, 4, 5))


def effect_table(findings: Findings) -> Markup:
    """What each arm does to each number, predicted or not."""
    rows = []
    for effect in findings.effects:
        if (found := effect.difference) is None:
            continue
        p = found.estimate.p_value()
        rows.append(
            [
                element("span", effect.words, class_="measure"),
                element("span", effect.arm, class_="state"),
                effect.size,
                *_estimate(found.estimate, findings.plan.confidence),
                "" if p is None else numbers.p_value(p),
                "" if found.hedges_gz is None else numbers.exact(found.hedges_gz, 2, True),
                "" if found.in_noise_sds is None else numbers.exact(found.in_noise_sds, 2, True),
                str(len(found.differences)),
                element("strong", "predicted") if effect.predicted else "exploration",
            ]
        )
    level = numbers.percent(findings.plan.confidence)
    head = ("Number", "Arm", "Size", "Difference", f"{level} interval", "p", "Hedges' g", "Noise sds", "Pairs", "")
    return _without_empty(head, rows, range(3, 9))


def items_table(findings: Findings) -> Markup:
    """How much of the variance of an effect is between seeds, between items and within both."""
    rows = []
    for judged in findings.judged:
        if (items := judged.items) is None:
            continue
        parts = (items.seed_variance, items.item_variance, items.residual_variance)
        whole = sum(parts)
        rows.append(
            [
                _said(judged),
                *_estimate(items.estimate, findings.plan.confidence),
                str(items.estimate.seeds),
                numbers.whole(items.items),
                *(f"{part:.3g} ({numbers.percent(part / whole)})" if whole else f"{part:.3g}" for part in parts),
            ]
        )
    level = numbers.percent(findings.plan.confidence)
    head = (
        "Prediction",
        "Difference",
        f"{level} interval",
        "Seeds",
        "Items",
        "Between seeds",
        "Between items",
        "Seed by item",
    )
    # The last three may take two lines.
    return data_table(head, rows, range(1, 5)) if rows else Markup()


def interaction_tables(findings: Findings) -> list[Markup]:
    """The effect at each size, and how it changes with size."""
    parts = []
    for judged in findings.judged:
        if (found := judged.interaction) is None:
            continue
        value, ends = _estimate(found.estimate, findings.plan.confidence)
        digits = numbers.decimals(max(map(abs, found.effects)) / 10)
        rows = [
            [f"{numbers.count(size)} parameters", numbers.exact(effect, digits, True)]
            for size, effect in zip(found.sizes, found.effects, strict=True)
        ]
        said = f"{value} {found.unit}"
        if ends:
            said += f", {numbers.percent(findings.plan.confidence)} interval {ends}"
        parts += [
            element("p", element("strong", in_words(judged)), f": {said}."),
            data_table(("Size", "Mean effect"), rows, (1,)),
        ]
    return parts


def holm_table(findings: Findings) -> Markup:
    """The secondary predictions by their adjusted p-values, at the levels at which each was decided."""
    family = [(one, one.verdict) for one in findings.judged if not one.prediction.primary and one.verdict]
    if len(family) < 2:
        return Markup()
    rows = [
        [
            _said(judged),
            numbers.p_value(verdict.p_supported),
            numbers.p_value(verdict.p_refuted),
            "" if verdict.interval is None else numbers.percent(verdict.interval.confidence),
            element("span", f"{SIGNS[verdict.outcome]} {verdict.outcome}", class_="state"),
        ]
        for judged, verdict in sorted(family, key=lambda one: min(one[1].p_supported, one[1].p_refuted))
    ]
    head = ("Prediction", "p to support", "p to refute", "Level of its interval", "Verdict")
    return data_table(head, rows, (1, 2, 3))


def reach_table(findings: Findings) -> Markup:
    """Which arm gets to a value first; runs that never do are censored, and count."""
    rows = [_reach_row(findings, judged) for judged in findings.judged if judged.reach is not None]
    head = ("Prediction", "Median", "Median of baseline", "Earlier", "Later", "Undecided", "p", "Censored runs")
    return data_table(head, rows, range(1, 7)) if rows else Markup()


def _reach_row(findings: Findings, judged: Judged) -> list[object]:
    reach, words = judged.reach, judged.prediction.measure.words
    assert reach is not None, "asked of a comparison of times"
    censored = [
        run.name
        for run in findings.runs
        if run.arm in (judged.arm, judged.against)
        and run.size == (judged.prediction.size or run.size)
        and words in run.values
        and run.values[words].censored
    ]
    medians = (
        "not seen" if median is None else numbers.count(median)
        for median in (reach.median_treatment, reach.median_baseline)
    )
    counts = map(str, (reach.earlier, reach.later, reach.undecided))
    p = f"{numbers.p_value(reach.p_value)} (least {numbers.p_value(reach.smallest_p)})"
    return [_said(judged), *medians, *counts, p, ", ".join(censored) or "none"]


def _said(judged: Judged) -> Markup:
    """The prediction, as wide as a sentence needs where the page is narrow."""
    return element("span", in_words(judged), class_="said")


def _estimate(estimate: Estimate, confidence: float) -> tuple[str, str]:
    """The value, and the ends of its interval or nothing."""
    interval = estimate.interval(1 - confidence)
    if interval is None:
        return numbers.exact(estimate.value, numbers.decimals(abs(estimate.value) / 10), True), ""
    digits = numbers.decimals(interval.high - interval.low)
    ends = f"{numbers.exact(interval.low, digits, True)} to {numbers.exact(interval.high, digits, True)}"
    return numbers.exact(estimate.value, digits, True), ends


def _without_empty(head: Sequence[str], rows: Sequence[Sequence[object]], numeric: Sequence[int] | range) -> Markup:
    """A table without the columns in which no row says anything, such as the size where there is one."""
    if not rows:
        return Markup()
    kept = [place for place in range(len(head)) if any(row[place] for row in rows)]
    right = [new for new, place in enumerate(kept) if place in numeric]
    return data_table([head[place] for place in kept], [[row[place] for place in kept] for row in rows], right)
