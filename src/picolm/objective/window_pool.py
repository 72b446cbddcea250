"""A pool of windows of text, and where in it each token type stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from picolm.data.permutation import KeyedPermutation
from picolm.seams import IntArray


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows that rows of one length can be cut into, without overlap, in keyed order.

    Attributes:
        n_rows: rows of the split.
        per_row: windows of one row.
        length: tokens of a window.
        key: of the order.
    """

    n_rows: int
    per_row: int
    length: int
    key: tuple[str | int, ...]

    @property
    def count(self) -> int:
        """All of them."""
        return self.n_rows * self.per_row

    def chosen(self, number: int, size: int) -> tuple[IntArray, IntArray]:
        """The windows of pool `number`: their rows [P] and their first tokens in these [P], ascending.

        Pools follow one another through all windows, again and again; one that is as large as all of them is all.
        """
        size = min(size, self.count)
        places = (number * size + np.arange(size, dtype=np.int64)) % self.count
        windows = np.sort(KeyedPermutation(self.count, "windows", *self.key)(places))
        rows, within = np.divmod(windows, self.per_row)
        return rows, within * self.length


class WindowPool:
    """Windows of equal length with an inverted index: token type -> the windows that hold it.

    Attributes:
        tokens: [P, L].
        frequencies: [V], in how many windows each type stands.
    """

    def __init__(self, tokens: IntArray, vocab_size: int) -> None:
        """Index the windows.

        Args:
            tokens: [P, L], each in range(vocab_size).
            vocab_size: V.
        """
        self.tokens = tokens
        windows = np.repeat(np.arange(len(tokens), dtype=np.int64), tokens.shape[1])
        # Each pair (type, window) once, in the order of types.
        pairs = np.unique(tokens.ravel() * len(tokens) + windows)
        types, self._windows = np.divmod(pairs, len(tokens))
        self.frequencies = np.bincount(types, minlength=vocab_size).astype(np.int64)
        self._ends = np.cumsum(self.frequencies)

    def holding(self, type: int) -> IntArray:
        """The windows that hold a type, ascending."""
        end = int(self._ends[type])
        return self._windows[end - int(self.frequencies[type]) : end]
