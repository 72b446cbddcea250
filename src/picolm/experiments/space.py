"""What a search may choose from: for each key of a configuration a range or a list of values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, model_validator

from picolm.config.section import Section
from picolm.randomness import Key, derive_seed

Point = dict[str, Any]
"""One value for each key: `{optimizer.learning_rate: 0.003}`."""
_DIGITS = 6
"""Significant digits of what is drawn: a person can read it, type it, and get the same run."""


class Dimension(Section):
    """The values that one key may have. A list in a plan is short for `choices`."""

    choices: tuple[Any, ...] | None = Field(None, description="these values and no others", min_length=1)
    low: float | None = Field(None, description="the smallest value", allow_inf_nan=False)
    high: float | None = Field(None, description="the largest value", allow_inf_nan=False)
    log: bool = Field(False, description="whether each factor of ten is as likely as any other")
    integer: bool = Field(False, description="whole numbers only")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"choices": tuple(value)} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _one_way(self) -> Dimension:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.integer:
                raise ValueError("give `choices`, or a range from `low` to `high`, not both")
            refuse_repeated(self.choices)
            return self
        if self.low is None or self.high is None:
            raise ValueError("give a list of values, or a range: `low` and `high`")
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be less than high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"a range with `log` must begin above 0, not at {self.low:g}")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("a range with `integer` must begin and end at a whole number")
        return self

    @property
    def ends(self) -> tuple[int | float, int | float]:
        """Lowest and highest value of a range."""
        assert self.low is not None and self.high is not None, "choices have no ends"
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)

    @property
    def size(self) -> float:
        """How many values there are; infinite of a range of real numbers."""
        if self.choices is not None:
            return len(self.choices)
        low, high = self.ends
        return high - low + 1 if self.integer else math.inf

    def at(self, share: float) -> Any:
        """The value at a place of the dimension.

        Args:
            share: from 0 to below 1; equal stretches of it hold equally likely values.
        """
        if self.choices is not None:
            return self.choices[int(share * len(self.choices))]
        low, high = self.ends
        # So that the first and the last whole number are as likely as the others.
        left, right = (low - 0.5, high + 0.5) if self.integer else (low, high)
        if self.log:
            value = math.exp(math.log(left) + share * (math.log(right) - math.log(left)))
        else:
            value = left + share * (right - left)
        return self.rounded(value)

    def rounded(self, value: float) -> int | float:
        """A number of a range with so many digits as a person can read."""
        low, high = self.ends
        near = round(value) if self.integer else float(f"{value:.{_DIGITS}g}")
        return min(max(near, low), high)

    def holds(self, value: object) -> bool:
        """Whether a value is one of these."""
        if self.choices is not None:
            return any(same(value, choice) for choice in self.choices)
        low, high = self.ends
        kinds = (int,) if self.integer else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high


Space = dict[str, Dimension]
"""By key what it may be."""


def drawn(space: Mapping[str, Dimension], seed: int, trials: int) -> list[Point]:
    """Draw points, all of them different.

    Each value is a function of seed, number of the point and key, so that more points or another key leave the others
    as they were.

    Args:
        space: to draw from; it holds `trials` points or more.
        seed: of the draws.
        trials: how many points.
    """
    found: list[Point] = []
    for number in range(trials):
        attempts = (_draw(space, seed, number, attempt) for attempt in _naturals())
        found.append(next(point for point in attempts if not any(same(point, other) for other in found)))
    return found


def corners(space: Mapping[str, Dimension]) -> list[Point]:
    """A few points at which every choice and both ends of every range are tried, to see that they are possible."""
    extremes = {key: [*(one.choices or one.ends)] for key, one in space.items()}
    longest = max(len(values) for values in extremes.values())
    return [{key: values[min(place, len(values) - 1)] for key, values in extremes.items()} for place in range(longest)]


def refuse_repeated(values: tuple[Any, ...]) -> None:
    """Refuse values one of which stands twice.

    Raises:
        ValueError: one does.
    """
    for place, value in enumerate(values):
        if any(same(value, other) for other in values[:place]):
            raise ValueError(f"{value} stands twice")


def same(left: object, right: object) -> bool:
    """Whether two values of a plan are the same: 1 and 1.0 are, 1 and true are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def _draw(space: Mapping[str, Dimension], seed: int, number: int, attempt: int) -> Point:
    # A hash by itself, not a library's generator: what a plan stands for must be the same in ten years.
    key: tuple[Key, ...] = ("sweep", number) if attempt == 0 else ("sweep", number, attempt)
    return {name: one.at(derive_seed(seed, *key, name) / 2**63) for name, one in space.items()}


def _naturals() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1
