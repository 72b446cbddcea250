"""An effect and its interval on one axis, beside 0 and the smallest effect that matters: SVG that needs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from picolm.experiments.statistics.estimate import Interval
from picolm.experiments.statistics.verdict import Claim, Outcome
from picolm.report import numbers
from picolm.report.markup import Markup, element

_ROOM = 0.12
"""What is left free on either side, of what is shown."""
_HEIGHT, _MIDDLE, _BOTTOM = 76, 30, 50
_CROWDED = 14.0
"""Percent of the width below which the labels of two ticks would touch on a telephone."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a number stands on the axis, from 0 to 100 percent of its width.

    Attributes:
        low: at the left end.
        high: at the right end.
    """

    low: float
    high: float

    @classmethod
    def over(cls, shown: Sequence[float]) -> Scale:
        """An axis on which all of these can be seen, with room on both sides."""
        low, high = min(shown), max(shown)
        room = _ROOM * (high - low) or max(abs(high), 1.0)
        return cls(low - room, high + room)

    def percent(self, value: float) -> float:
        """The place of a number; beyond an end, that end."""
        return min(100.0, max(0.0, 100 * (value - self.low) / (self.high - self.low)))


def thresholds(claim: Claim) -> list[float]:
    """Where an effect begins to matter: on the side that was predicted, on both where it is to stay the same."""
    if claim.direction == "same":
        return [-claim.smallest_effect, claim.smallest_effect]
    return [claim.smallest_effect if claim.direction == "higher" else -claim.smallest_effect]


def whisker(claim: Claim, interval: Interval | None, outcome: Outcome) -> Markup:
    """Draw the effect of a claim; the region where it would be as predicted is shaded.

    Args:
        claim: what was predicted and found.
        interval: of the effect; None of one seed.
        outcome: gives the mark its shape and colour.
    """
    value, marks = claim.estimate.value, thresholds(claim)
    ends = [] if interval is None else [interval.low, interval.high]
    scale = Scale.over([value, 0.0, *marks, *ends])
    digits = numbers.decimals(scale.high - scale.low)
    return element(
        "svg",
        _region(claim, scale),
        _line(0, _BOTTOM, 100, _BOTTOM, "axis"),
        *_ticks(marks, scale),
        *([] if interval is None else _interval(interval, scale)),
        _mark(scale.percent(value), outcome),
        class_=f"whisker {outcome}",
        role="img",
        aria_label=_said(claim, interval, digits),
        height=str(_HEIGHT),
    )


def _region(claim: Claim, scale: Scale) -> Markup:
    edges = [scale.percent(mark) for mark in thresholds(claim)]
    left = 0.0 if claim.direction == "lower" else edges[0]
    right = 100.0 if claim.direction == "higher" else edges[-1]
    return element(
        "rect", class_="region", x=f"{left:.2f}%", y="4", width=f"{right - left:.2f}%", height=str(_BOTTOM - 4)
    )


def _ticks(marks: Sequence[float], scale: Scale) -> list[Markup]:
    named = [(_signed(mark), scale.percent(mark)) for mark in marks if mark]
    parts = [_line(scale.percent(0), 4, scale.percent(0), _BOTTOM + 4, "zero")]
    # 0 has a line of its own, so that its label is what gives way.
    if all(abs(scale.percent(0) - place) >= _CROWDED for _, place in named):
        parts.append(_label(scale.percent(0), "0"))
    parts += [_line(place, 4, place, _BOTTOM + 4, "threshold") for _, place in named]
    if len(named) == 2 and named[1][1] - named[0][1] < _CROWDED:
        named = [(f"\u00b1{max(marks):g}", scale.percent(0))]
    return [*parts, *(_label(place, words) for words, place in named)]


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "\u2212")


def _interval(interval: Interval, scale: Scale) -> list[Markup]:
    low, high = scale.percent(interval.low), scale.percent(interval.high)
    return [
        _line(low, _MIDDLE, high, _MIDDLE, "interval"),
        *(_line(end, _MIDDLE - 7, end, _MIDDLE + 7, "interval") for end in (low, high)),
    ]


def _mark(place: float, outcome: Outcome) -> Markup:
    """A disc, a square or a hollow diamond: where colours are not told apart, shapes are."""
    shapes = {
        "supported": element("circle", r="7"),
        "refuted": element("rect", x="-6.5", y="-6.5", width="13", height="13"),
        "inconclusive": element("path", d="M0 -8 L8 0 L0 8 L-8 0 Z"),
    }
    # A picture within the picture moves by percent, which a path cannot.
    return element("svg", shapes[outcome], class_="mark", x=f"{place:.2f}%", y=str(_MIDDLE), overflow="visible")


def _line(left: float, top: float, right: float, bottom: float, kind: str) -> Markup:
    return element("line", class_=kind, x1=f"{left:.2f}%", y1=f"{top:g}", x2=f"{right:.2f}%", y2=f"{bottom:g}")


def _label(place: float, words: str) -> Markup:
    anchor = "start" if place < 8 else "end" if place > 92 else "middle"
    return element("text", words, x=f"{place:.2f}%", y=str(_BOTTOM + 18), text_anchor=anchor)


def _said(claim: Claim, interval: Interval | None, digits: int) -> str:
    value = numbers.exact(claim.estimate.value, digits, True)
    if interval is None:
        return f"effect {value}, without an interval"
    return f"effect {value}, interval {numbers.exact(interval.low, digits)} to {numbers.exact(interval.high, digits)}"
