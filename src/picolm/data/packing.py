"""Documents end to end: a stream that is cut into rows, made of all documents of a split or of some of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from picolm.data.split import Split

Int64Array = np.ndarray[Any, np.dtype[np.int64]]


class Passage(NamedTuple):
    """A part of a document in a row: tokens [start, stop) of the split's stream, which stand at `place` in the row."""

    document: int
    place: int
    start: int
    stop: int


class Packing:
    """Separator, document, separator, document, ..., separator: the split's own stream, or one of chosen documents.

    Nothing is copied: a position of the packing is looked up in the split where it is read.

    Args:
        split: where the documents lie.
        documents: indices of the chosen ones, in the order of the packing; None: all, as they lie.

    Attributes:
        n_tokens: length of the stream, the separator at its start included.
    """

    def __init__(self, split: Split, documents: Int64Array | None = None) -> None:
        self._split, self._documents = split, documents
        # Where each document begins in the packing, and where the last one ends.
        self._begins: Int64Array = np.array([1])
        self.n_tokens = split.n_tokens
        if documents is not None:
            self._begins = np.concatenate([[1], 1 + np.cumsum(split.document_lengths(documents))])
            self.n_tokens = int(self._begins[-1])

    def tokens(self, start: int, stop: int) -> Int64Array:
        """Return the tokens of [start, stop), int64 [stop - start]."""
        return self._gather(self._split.tokens, start, stop)

    def tags(self, start: int, stop: int) -> Int64Array:
        """Return the parts of speech of [start, stop), int64 [stop - start], as `Split.tags`."""
        return self._gather(self._split.tags, start, stop)

    def documents(self, start: int, stop: int) -> Int64Array:
        """Return the document of each token of [start, stop), int64 [stop - start], as `Split.document_numbers`."""
        if self._documents is None:
            return self._split.document_numbers(start, stop)
        passages = self.passages(start, stop)
        return np.repeat([passage.document for passage in passages], [one.stop - one.start for one in passages])

    def span_of(self, document: int) -> tuple[int, int] | None:
        """Return where a document begins and ends in the packing; None where it is not in it."""
        if self._documents is None:
            return self._split.document_span(document)
        found = np.flatnonzero(self._documents == document)
        return (int(self._begins[found[0]]), int(self._begins[found[0] + 1])) if len(found) else None

    def passages(self, start: int, stop: int) -> list[Passage]:
        """Say what [start, stop) is made of, in order."""
        if self._documents is None:
            return self._own_passages(start, stop)
        found: list[Passage] = []
        if start == 0:
            # The first separator is nobody's; it is read where the split has one and counted to the first document.
            found.append(Passage(int(self._documents[0]), 0, 0, 1))
        position = max(start, 1)
        index = int(np.searchsorted(self._begins, position, side="right")) - 1
        while position < stop:
            document = int(self._documents[index])
            begin, end = int(self._begins[index]), int(self._begins[index + 1])
            taken = min(stop, end) - position
            first = self._split.document_span(document)[0] + position - begin
            found.append(Passage(document, position - start, first, first + taken))
            position, index = position + taken, index + 1
        return found

    def _own_passages(self, start: int, stop: int) -> list[Passage]:
        numbers = self._split.document_numbers(start, stop)
        borders = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), stop - start]
        return [Passage(int(numbers[place]), place, start + place, start + end) for place, end in pairwise(borders)]

    def _gather(self, read: Callable[[int, int], Int64Array], start: int, stop: int) -> Int64Array:
        if self._documents is None:
            return read(start, stop)
        return np.concatenate([read(passage.start, passage.stop) for passage in self.passages(start, stop)])
