"""Curves: points as they stand in the log, made light enough for a page without hiding a spike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any


def number(value: object) -> float | None:
    """Return a finite number as a float, and anything else (text, NaN, nothing) as None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def spread(items: Sequence[int], most: int) -> list[int]:
    """Choose items evenly by their place, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


@dataclass(frozen=True)
class Series:
    """A curve over steps, or another axis.

    Attributes:
        steps: where, not decreasing.
        values: what; None where there is no finite value, which a plot shows as a gap.
    """

    steps: Sequence[float]
    values: list[float | None]

    @classmethod
    def of(cls, lines: Iterable[dict[str, Any]], *keys: str) -> Series:
        """Take from each line the value that stands under nested keys; lines that do not have the keys are left out."""
        steps, values = [], []
        for line in lines:
            value: Any = line
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                steps.append(line["step"])
                values.append(number(value))
        return cls(steps, values)

    def __bool__(self) -> bool:
        return any(value is not None for value in self.values)

    @property
    def finite(self) -> list[float]:
        """The values that there are."""
        return [value for value in self.values if value is not None]

    def smoothed(self, half_width: int) -> Series:
        """Return the mean over each point's neighbours, as many to the left as to the right.

        Unlike a moving average over the past it does not lag behind a loss that falls quickly: at the start the window
        shrinks on both sides, and only at the end, where a curve is flat, on one.

        Args:
            half_width: neighbours on each side.
        """
        sums = list(accumulate((value or 0.0 for value in self.values), initial=0.0))
        counts = list(accumulate((value is not None for value in self.values), initial=0))
        values: list[float | None] = []
        for i, value in enumerate(self.values):
            width = min(half_width, i)
            low, high = i - width, min(i + width + 1, len(self.values))
            values.append(None if value is None else (sums[high] - sums[low]) / (counts[high] - counts[low]))
        return Series(self.steps, values)

    def thinned(self, most: int = 2000) -> Series:
        """Return at most `most` points: of each stretch of neighbours its first gap, its lowest and its highest."""
        if len(self.steps) <= most:
            return self
        stretches = most // 3
        bounds = [round(i * len(self.steps) / stretches) for i in range(stretches + 1)]
        kept = [i for low, high in pairwise(bounds) for i in self._extremes(range(low, high))]
        return Series([self.steps[i] for i in kept], [self.values[i] for i in kept])

    def _extremes(self, stretch: Sequence[int]) -> list[int]:
        there = [i for i in stretch if self.values[i] is not None]
        gaps = [i for i in stretch if self.values[i] is None][:1]
        if not there:
            return gaps
        order = sorted(there, key=lambda i: self.values[i] or 0.0)
        return sorted({order[0], order[-1], *gaps})
