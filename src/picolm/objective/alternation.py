"""Which steps of a run are of the second kind, where two kinds of step alternate at random in a given proportion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Draw = Callable[..., np.random.Generator]
"""A key -> a generator of its own."""

_LEAST_BLOCK = 16
_CHUNK = 1024


class Alternation(ABC):
    """Which steps are of the second kind: a pure function of the step, so all ranks agree without a word."""

    @abstractmethod
    def is_second(self, step: int) -> bool:
        """Whether a step is of the second kind."""

    @abstractmethod
    def before(self, step: int) -> int:
        """How many steps before this one are of the second kind."""


class Throughout(Alternation):
    """Every step is of the second kind."""

    def is_second(self, step: int) -> bool:
        """Yes."""
        return True

    def before(self, step: int) -> int:
        """All of them."""
        return step


class Within(Alternation):
    """As another one counts from `start` on, until `stop`; outside of that no step is of the second kind."""

    def __init__(self, base: Alternation, start: int, stop: int | None) -> None:
        """Prepare.

        Args:
            base: of the steps from `start` on.
            start: the first step that it decides about.
            stop: the first step after these; None: there is none.
        """
        self.base, self.start, self.stop = base, start, stop

    def is_second(self, step: int) -> bool:
        """Whether a step is of the second kind."""
        is_inside = self.start <= step and (self.stop is None or step < self.stop)
        return is_inside and self.base.is_second(step - self.start)

    def before(self, step: int) -> int:
        """How many steps before this one are of the second kind."""
        end = step if self.stop is None else min(step, self.stop)
        return self.base.before(max(end - self.start, 0))


class Blocks(Alternation):
    """Steps in blocks of equal length; where a block has its steps of the second kind hangs on its number alone."""

    length: int
    """Steps of a block."""

    @abstractmethod
    def block(self, number: int) -> npt.NDArray[np.bool_]:
        """Whether each step of a block is of the second kind [length]."""

    @abstractmethod
    def before_block(self, number: int) -> int:
        """How many steps before a block are of the second kind."""

    def is_second(self, step: int) -> bool:
        """Whether a step is of the second kind."""
        number, place = divmod(step, self.length)
        return bool(self.block(number)[place])

    def before(self, step: int) -> int:
        """How many steps before this one are of the second kind."""
        number, place = divmod(step, self.length)
        return self.before_block(number) + int(self.block(number)[:place].sum())


class ShuffledBlocks(Blocks):
    """The proportion is exact in every block, within which the order is random."""

    def __init__(self, ratio: float, draw: Draw) -> None:
        """Find the shortest block of 16 steps or more in which the proportion is exact, to a thousandth.

        Args:
            ratio: of steps of the second kind, from 0 to 1.
            draw: gives generators by key.
        """
        share = Fraction(ratio).limit_denominator(1000)
        times = -(-_LEAST_BLOCK // share.denominator)
        self.length, self.seconds = times * share.denominator, times * share.numerator
        self._draw = draw

    def block(self, number: int) -> npt.NDArray[np.bool_]:
        """Whether each step of a block is of the second kind [length]."""
        kinds: npt.NDArray[np.bool_] = np.arange(self.length) < self.seconds
        return self._draw("block", number).permutation(kinds)

    def before_block(self, number: int) -> int:
        """As many in each block."""
        return number * self.seconds


class Coins(Blocks):
    """Each step by itself is of the second kind with a probability; the proportion holds on average."""

    def __init__(self, ratio: float, draw: Draw) -> None:
        """Prepare.

        Args:
            ratio: the probability.
            draw: gives generators by key.
        """
        self.length, self.ratio, self._draw = _CHUNK, ratio, draw
        self._before = [0]

    def block(self, number: int) -> npt.NDArray[np.bool_]:
        """Whether each step of a block is of the second kind [length]."""
        return self._draw("coins", number).random(self.length) < self.ratio

    def before_block(self, number: int) -> int:
        """Counted once, block by block, and remembered."""
        # A list of its own, put in place at once: several threads may ask.
        before = list(self._before)
        while len(before) <= number:
            before.append(before[-1] + int(self.block(len(before) - 1).sum()))
        if len(before) > len(self._before):
            self._before = before
        return before[number]
