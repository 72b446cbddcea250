"""The order in which a run draws its sequences when nothing changes it."""

from __future__ import annotations

import numpy as np

from picolm.data.permutation import KeyedPermutation
from picolm.seams import IntArray, Plan


class EpochPlan(Plan):
    """Passes over all rows, each in its own keyed random order; a batch may straddle two passes.

    Sequence number n of the whole run is row `permutation(epoch)[n mod rows]` with `epoch = n div rows`, whatever the
    batch
    size: changing it regroups the same sequence of rows.
    """

    def __init__(self, *, n_rows: int, batch_size: int, fingerprint: str, seed: int) -> None:
        self.n_rows, self.batch_size = n_rows, batch_size
        self._key = (seed, "order", fingerprint)

    def size(self, step: int) -> int:
        """The batch size, at every step."""
        return self.batch_size

    def start(self, step: int) -> int:
        """`step` batches have been drawn before."""
        return step * self.batch_size

    def rows(self, step: int) -> IntArray:
        """Ids of the step's sequences [batch_size]."""
        first = self.start(step)
        numbers = np.arange(first, first + self.size(step), dtype=np.int64)
        epochs, places = np.divmod(numbers, self.n_rows)
        rows = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            seed, *key = self._key
            rows[here] = KeyedPermutation(self.n_rows, seed, *key, int(epoch))(places[here])
        return rows

    def horizon(self, step: int) -> int:
        """Nothing changes, so any later step may be asked for."""
        return 2**63 - 1
