"""What became of the predictions: a card for each, the primary one first."""

from __future__ import annotations

import math
from collections.abc import Iterator

from picolm.experiments.findings import Findings, Judged
from picolm.experiments.plan import Prediction
from picolm.experiments.statistics.estimate import Estimate, Interval
from picolm.experiments.statistics.verdict import Claim, Outcome, Verdict
from picolm.report import numbers
from picolm.report.markup import Markup, definitions, element
from picolm.report.whisker import whisker

SIGNS: dict[Outcome, str] = {"supported": "\u2713", "refuted": "\u2717", "inconclusive": "?"}
"""Beside the word and the colour: a check mark, a cross, a question mark."""


def verdict_cards(findings: Findings) -> list[Markup]:
    """A card for each prediction."""
    # The family is what was judged: what had nothing to judge is not corrected for.
    secondary = sum(one.verdict is not None and not one.prediction.primary for one in findings.judged)
    return [_card(judged, secondary, findings.plan.confidence) for judged in findings.judged]


def badge(outcome: Outcome | None) -> Markup:
    """The outcome as a sign and a word, in its colour."""
    if outcome is None:
        return element("span", "\u2013 no verdict", class_="outcome none")
    return element("span", f"{SIGNS[outcome]} {outcome}", class_=f"outcome {outcome}")


def in_words(judged: Judged) -> str:
    """What was predicted: which number of which arm, in which direction, by how much, at which size."""
    prediction = judged.prediction
    what, smallest = prediction.measure.words, f"{prediction.smallest:g}"
    who = f"{judged.arm} against {judged.against}"
    where = f", at size {prediction.size}" if prediction.size else ""
    scale = " in log ratio" if judged.scale == "log ratio" else ""
    if prediction.grows:
        return f"{who}: the effect on {what} {_growth(prediction)}"
    if prediction.direction == "same":
        return f"{who}: {what} the same, closer than {smallest}{scale}{where}"
    beyond = f" by more than {smallest}{scale}" if prediction.smallest else ""
    return f"{who}: {what} {prediction.direction}{beyond}{where}"


def _growth(prediction: Prediction) -> str:
    if prediction.direction == "same":
        return f"does not change with size, by {prediction.smallest:g} at most"
    beyond = f", by more than {prediction.smallest:g}" if prediction.smallest else ""
    return f"becomes {prediction.direction} with size{beyond}"


def _card(judged: Judged, secondary: int, confidence: float) -> Markup:
    verdict = judged.verdict
    claim = verdict.claim if verdict else _unjudged(judged)
    outcome: Outcome = verdict.outcome if verdict else "inconclusive"
    interval = verdict.interval if verdict else None
    drawn = whisker(claim, interval, outcome) if claim else Markup()
    return element(
        "article",
        element("header", badge(verdict.outcome if verdict else None), element("span", _rank(judged), class_="rank")),
        element("h3", in_words(judged)),
        element("p", f"\u201c{judged.prediction.says}\u201d", class_="says") if judged.prediction.says else "",
        drawn,
        _effect(judged, claim, interval) if claim else "",
        definitions(_numbers(judged, secondary, confidence)),
        element("p", f"Missing: {judged.missing}", class_="missing") if judged.missing else "",
        class_=f"verdict {verdict.outcome if verdict else 'none'}",
    )


def _rank(judged: Judged) -> str:
    return "primary prediction" if judged.prediction.primary else "secondary prediction"


def _unjudged(judged: Judged) -> Claim | None:
    """What there is to draw where there is no verdict yet."""
    found = judged.interaction or judged.items or judged.difference
    if found is None:
        return None
    prediction = judged.prediction
    return Claim(prediction.measure.words, found.estimate, prediction.direction, prediction.smallest)


def _effect(judged: Judged, claim: Claim, interval: Interval | None) -> Markup:
    value = claim.estimate.value
    digits = numbers.decimals(abs(value) / 10 if interval is None else interval.high - interval.low)
    strong = element("strong", numbers.exact(value, digits, True))
    unit = f" {judged.interaction.unit}" if judged.interaction else f" {judged.scale}"
    if interval is None:
        return element("p", strong, unit, ", without an interval: it takes two seeds or more", class_="effect")
    ends = f"{numbers.exact(interval.low, digits, True)} to {numbers.exact(interval.high, digits, True)}"
    said = f", {numbers.percent(interval.confidence)} interval {ends}"
    ratio = element("span", _ratio(claim.estimate, interval), class_="note") if judged.scale == "log ratio" else ""
    return element("p", strong, unit, said, ratio, class_="effect")


def _ratio(estimate: Estimate, interval: Interval) -> str:
    one, low, high = (f"{math.exp(x):.3g}" for x in (estimate.value, interval.low, interval.high))
    return f" \u2014 {one} times as far along the axis, {low} to {high}"


def _numbers(judged: Judged, secondary: int, confidence: float) -> Iterator[tuple[str, str]]:
    verdict, difference = judged.verdict, judged.difference
    if verdict is not None:
        yield from _verdict_numbers(verdict, secondary if not judged.prediction.primary else 1, confidence)
    if judged.p_value is not None:
        yield "p of \u201cno effect\u201d", f"{numbers.p_value(judged.p_value)}, two-sided, not adjusted"
    if difference is not None:
        if difference.hedges_gz is not None:
            yield "Hedges' g of pairs", numbers.exact(difference.hedges_gz, 2, True)
        if difference.in_noise_sds is not None:
            yield "in noise sds", numbers.exact(difference.in_noise_sds, 2, True)
        yield "pairs", str(len(difference.differences))
        if difference.dropped:
            yield "left out", "; ".join(f"{one.seed}: {one.reason}" for one in difference.dropped)
    if judged.noise is not None:
        digits = numbers.decimals(judged.noise.sd)
        yield "seeds alone", f"sd {numbers.exact(judged.noise.sd, digits)} over {len(judged.noise.seeds)} seeds"
    if judged.items is not None:
        yield "items", f"{judged.items.items:,}, crossed with seeds"
    if judged.reach is not None:
        reach = judged.reach
        yield "pairs by who is first", f"{reach.earlier} earlier, {reach.later} later, {reach.undecided} undecided"


def _verdict_numbers(verdict: Verdict, family: int, confidence: float) -> Iterator[tuple[str, str]]:
    how = f", adjusted by Holm for {family} predictions" if family > 1 else ""
    alpha = 1 - confidence
    yield "p to support", f"{numbers.p_value(verdict.p_supported)}{how}; supported at {alpha:.2g} or less"
    yield "p to refute", f"{numbers.p_value(verdict.p_refuted)}{how}; refuted at {alpha:.2g} or less"
    if verdict.to_settle is not None:
        yield "to settle it", f"{verdict.to_settle} in all" if verdict.to_settle.seeds else str(verdict.to_settle)
