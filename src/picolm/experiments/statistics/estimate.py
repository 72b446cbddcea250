"""An effect with its uncertainty over seeds (and items), from which intervals, p-values and verdicts follow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scipy.optimize import brentq
from scipy.special import ndtr, stdtr, stdtrit

from picolm.errors import PicoLMError

# Beyond it a normal tail is no double.
_LARGEST_Z = 37.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; each side has its own share of the error.

    Attributes:
        low: the lower end.
        high: the upper end.
        tail_low: how often, at most, the truth lies below `low`.
        tail_high: how often, at most, the truth lies above `high`.
    """

    low: float
    high: float
    tail_low: float
    tail_high: float

    @property
    def confidence(self) -> float:
        """How often an interval made like this holds the truth: 1 - tail_low - tail_high."""
        return 1 - self.tail_low - self.tail_high


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds (and items) with its standard errors.

    The half-width at a tail is sqrt((t_seeds se_seeds)^2 + (t_items se_items)^2), each t at its own degrees of
    freedom. Without items that is the interval of Student's t; with them Banerjee's, which covers at least as often
    as it says when both parts are normal and independent, and their errors measured apart.

    Attributes:
        value: of the effect.
        seeds: that it is the mean of.
        seed_error: standard error over seeds; None where one seed says nothing of it.
        degrees_of_freedom: of `seed_error`; None with it.
        item_error: standard error over items, which more seeds do not lessen; 0 where there are none.
        item_degrees_of_freedom: of `item_error`.

    Source:
        Banerjee 1960, Sankhya 22: approximate confidence interval for linear functions of means.
    """

    value: float
    seeds: int
    seed_error: float | None
    degrees_of_freedom: float | None
    item_error: float = 0.0
    item_degrees_of_freedom: float = math.inf

    @property
    def measurable(self) -> bool:
        """Whether there is a standard error over seeds: two seeds or more."""
        return self.seed_error is not None and self.degrees_of_freedom is not None

    @property
    def standard_error(self) -> float | None:
        """Of seeds and items together: sqrt(seed_error^2 + item_error^2)."""
        return None if self.seed_error is None else math.hypot(self.seed_error, self.item_error)

    def mirrored(self) -> Estimate:
        """The effect seen from the other arm: its sign is turned."""
        return replace(self, value=-self.value)

    def half_width(self, tail: float) -> float:
        """From the value to either end of an interval.

        Args:
            tail: how often the truth may lie beyond that end, from 0 to 0.5.
        """
        assert self.seed_error is not None and self.degrees_of_freedom is not None and 0 < tail <= 0.5
        # A perfect agreement of seeds has no width, whatever the quantile.
        seeds = self.seed_error * _quantile(self.degrees_of_freedom, tail) if self.seed_error else 0.0
        items = self.item_error * _quantile(self.item_degrees_of_freedom, tail) if self.item_error else 0.0
        return math.hypot(seeds, items)

    def interval(
        self, alpha: float = 0.05, *, tail_low: float | None = None, tail_high: float | None = None
    ) -> Interval | None:
        """The confidence interval.

        Args:
            alpha: how often the truth may lie outside, half of it on each side.
            tail_low: in place of alpha / 2 below.
            tail_high: in place of alpha / 2 above.

        Returns:
            None where there is one seed only.

        Raises:
            PicoLMError: alpha is not between 0 and 1.
        """
        check_alpha(alpha)
        if not self.measurable:
            return None
        below, above = (alpha / 2 if tail is None else tail for tail in (tail_low, tail_high))
        return Interval(self.value - self.half_width(below), self.value + self.half_width(above), below, above)

    def p_above(self, threshold: float = 0.0) -> float | None:
        """One-sided p-value of "the effect is not above the threshold".

        Returns:
            From 0 to 1, None where there is one seed only. Where all seeds agree to the digit: 0 if above, else 1.
        """
        if not self.measurable:
            return None
        distance = self.value - threshold
        if distance > 0:
            return self._tail(distance)
        return 1.0 if not self.standard_error else 1 - self._tail(-distance)

    def p_below(self, threshold: float = 0.0) -> float | None:
        """One-sided p-value of "the effect is not below the threshold"; see `p_above`."""
        return self.mirrored().p_above(-threshold)

    def p_value(self, null: float = 0.0) -> float | None:
        """Two-sided p-value of "the effect is `null`".

        Returns:
            From 0 to 1, None where there is one seed only. Where all seeds agree to the digit: 1 if on `null`, else 0.
        """
        above, below = self.p_above(null), self.p_below(null)
        return None if above is None or below is None else min(1.0, 2 * min(above, below))

    def _tail(self, distance: float) -> float:
        """The tail whose half-width is a distance, which is not negative; 0 where all agree."""
        assert self.seed_error is not None and self.degrees_of_freedom is not None
        if not self.standard_error:
            return 0.0
        if not self.item_error:
            return float(stdtr(self.degrees_of_freedom, -distance / self.seed_error))
        if self.half_width(float(ndtr(-_LARGEST_Z))) <= distance:
            return 0.0
        # The median of t is 0 but for rounding.
        if self.half_width(0.5) >= distance:
            return 0.5
        z = brentq(lambda z: self.half_width(float(ndtr(-z))) - distance, 0.0, _LARGEST_Z, xtol=1e-12)
        return float(ndtr(-z))


def check_alpha(alpha: float) -> None:
    """Refuse an error rate that is none.

    Raises:
        PicoLMError: it is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise PicoLMError(f"an error rate lies between 0 and 1, such as 0.05, not at {alpha}")


def _quantile(degrees_of_freedom: float, tail: float) -> float:
    """What Student's t exceeds with a probability of `tail`."""
    return -float(stdtrit(degrees_of_freedom, tail))
