"""Choices of the grammar, from one keyed stream of uniform numbers."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import TypeVar

import numpy as np

from picolm.randomness import Key, generator

_Item = TypeVar("_Item")

_BLOCK = 256


@cache
def zipf_probabilities(n: int) -> tuple[float, ...]:
    """Probabilities of ranks 1 to n by the law of Zipf and Mandelbrot: proportional to 1 / (rank + 1.5)."""
    weights = [1.0 / (rank + 1.5) for rank in range(1, n + 1)]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


@cache
def _zipf_cumulative(n: int) -> tuple[float, ...]:
    return tuple(accumulate(zipf_probabilities(n)))


class Draw:
    """Choices from one generator, whose uniform numbers are drawn in blocks."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._numbers: list[float] = []

    @classmethod
    def keyed(cls, seed: int, *key: Key) -> Draw:
        """Open the stream of a seed and a key."""
        return cls(generator(seed, *key))

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        if not self._numbers:
            self._numbers = self._generator.random(_BLOCK).tolist()
        return self._numbers.pop()

    def chance(self, probability: float) -> bool:
        """Return whether something of this probability happens."""
        return self.uniform() < probability

    def below(self, n: int) -> int:
        """Choose one of 0 to n - 1, all being equally likely."""
        return int(self.uniform() * n)

    def one_of(self, items: Sequence[_Item]) -> _Item:
        """Choose, all being equally likely."""
        return items[int(self.uniform() * len(items))]

    def zipf(self, items: Sequence[_Item]) -> _Item:
        """Choose, the first being likeliest."""
        return items[min(bisect(_zipf_cumulative(len(items)), self.uniform()), len(items) - 1)]

    def weighted(self, items: Sequence[_Item], cumulative: Sequence[float]) -> _Item:
        """Choose by cumulative weights, whose last is the total."""
        return items[min(bisect(cumulative, self.uniform() * cumulative[-1]), len(items) - 1)]
