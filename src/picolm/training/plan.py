"""The order in which a run draws its sequences when nothing changes it."""

from __future__ import annotations

import numpy as np

from picolm.data.permutation import KeyedPermutation
from picolm.randomness import Key
from picolm.seams import Draw, IntArray, Plan


class EpochPlan(Plan):
    """Passes over all rows, each in its own keyed random order; a batch may straddle two passes.

    Sequence number n of the whole run is row `permutation(epoch)[n mod rows]` with `epoch = n div rows`, whatever the
    batch size: changing it regroups the same sequence of rows.
    """

    def __init__(self, *, n_rows: int, batch_size: int, fingerprint: str, seed: int) -> None:
        self.n_rows, self.batch_size = n_rows, batch_size
        self._passes = Passes(n_rows, seed, "order", fingerprint)

    def size(self, step: int) -> int:
        """The batch size, at every step."""
        return self.batch_size

    def start(self, step: int) -> int:
        """`step` batches have been drawn before."""
        return step * self.batch_size

    def numbered(self, numbers: IntArray, step: int) -> IntArray:
        """The rows of sequence numbers [N], the same at every step."""
        return self._passes.rows(numbers)

    def draws(self, rows: IntArray, steps: int) -> list[Draw]:
        """Where rows are drawn in the first `steps` steps, by inverting the permutations."""
        return draws_at(self._passes.numbers(rows, self.start(steps)), self.batch_size)


class Passes:
    """Some rows, again and again, each time in another keyed order: a number is a row, and a row has its numbers."""

    def __init__(self, n_rows: int, *key: Key) -> None:
        self.n_rows = n_rows
        self._key = key

    def rows(self, numbers: IntArray) -> IntArray:
        """The rows, in range(n_rows), of sequence numbers [N]."""
        epochs, places = np.divmod(numbers, self.n_rows)
        rows = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            rows[here] = self._order(int(epoch))(places[here])
        return rows

    def numbers(self, rows: IntArray, end: int) -> dict[int, int]:
        """The sequence numbers below `end` that are one of `rows`, with that row."""
        found: dict[int, int] = {}
        for epoch in range(-(-end // self.n_rows)):
            numbers = epoch * self.n_rows + self._order(epoch).inverse(rows)
            found |= {number: row for number, row in zip(numbers.tolist(), rows.tolist(), strict=True) if number < end}
        return found

    def _order(self, epoch: int) -> KeyedPermutation:
        return KeyedPermutation(self.n_rows, *self._key, epoch)


def draws_at(numbers: dict[int, int], batch_size: int) -> list[Draw]:
    """Turn sequence numbers of a run, with their rows, into draws, in order."""
    return [Draw(number // batch_size, number % batch_size, row) for number, row in sorted(numbers.items())]
