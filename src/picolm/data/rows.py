"""Rows of tokens: how a stream is cut into sequences of equal length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from picolm.data.packing import Packing, Passage
from picolm.data.permutation import KeyedPermutation
from picolm.data.split import Split
from picolm.errors import PicoLMError, nearest

Int64Array = np.ndarray[Any, np.dtype[np.int64]]


class Rows:
    """A split packed without gaps: row i is the stream's tokens [i * length, i * length + length + 1).

    The first `length` tokens of a row are inputs, the last `length` are targets, so that every token of the stream but
    the first (and a rest shorter than a row) is predicted exactly once.

    With `domains`, each of them is a stream of its own, so that a row belongs to one domain and a mixture can draw them
    in any proportion; the rows of the first domain come first.

    Args:
        split: usually `train`.
        length: predictions per row.
        domains: those to cut, each apart; None: the split as it lies.

    Attributes:
        n_rows: how many there are.
        length: predictions per row.
        parts: with `domains`, the rows of each.
    """

    def __init__(self, split: Split, length: int, domains: Sequence[str] | None = None) -> None:
        self.length = length
        self._split = split
        if domains is None:
            packings = {f"the {split.name} split": Packing(split)}
        else:
            packings = {f"the domain '{name}'": Packing(split, documents_of(split, name)) for name in domains}
        counts = [self._count(name, packing) for name, packing in packings.items()]
        self._packings = list(packings.values())
        self._firsts = np.cumsum([0, *counts])
        self.n_rows = int(self._firsts[-1])
        borders = self._firsts.tolist()
        self.parts = {name: range(*borders[i : i + 2]) for i, name in enumerate(domains or ())}

    def read(self, ids: Int64Array) -> Int64Array:
        """Return rows.

        Args:
            ids: int64 [R], each in range(n_rows), in any order.

        Returns:
            int64 [R, length + 1].

        Raises:
            IndexError: an id is outside range(n_rows).
        """
        return self._gather(Packing.tokens, ids)

    def read_tags(self, ids: Int64Array) -> Int64Array | None:
        """Return the parts of speech of rows, int64 [R, length + 1], as `Split.tags`; None where the data have none."""
        return self._gather(Packing.tags, ids) if self._split.tag_names else None

    def read_documents(self, ids: Int64Array) -> Int64Array:
        """Return the document of each token of rows, int64 [R, length + 1], as `Split.document_numbers`."""
        return self._gather(Packing.documents, ids)

    def passages(self, id: int) -> list[Passage]:
        """Say which parts of which documents a row is made of, in order."""
        packing, start = self._place(id)
        return packing.passages(start, start + self.length + 1)

    def of_document(self, document: int) -> Int64Array:
        """Return the ids of the rows that hold a token of a document, int64, ascending."""
        for packing, (first, last) in zip(self._packings, pairwise(self._firsts.tolist()), strict=True):
            span = packing.span_of(document)
            if span is not None:
                start, stop = span
                rows = np.arange((start - 1) // self.length, (stop - 1) // self.length + 1)
                return np.asarray(first + rows[rows < last - first], dtype=np.int64)
        return np.empty(0, dtype=np.int64)

    def _count(self, name: str, packing: Packing) -> int:
        count = (packing.n_tokens - 1) // self.length
        if count < 1:
            raise PicoLMError(
                f"{name} has {packing.n_tokens} tokens, too few for one row of {self.length} + 1: "
                "give more text or a smaller data.sequence_length"
            )
        return count

    def _place(self, id: int) -> tuple[Packing, int]:
        if not 0 <= id < self.n_rows:
            raise IndexError(f"row {id} of {self.n_rows}")
        part = int(np.searchsorted(self._firsts, id, side="right")) - 1
        return self._packings[part], (id - int(self._firsts[part])) * self.length

    def _gather(self, read: Callable[[Packing, int, int], Int64Array], ids: Int64Array) -> Int64Array:
        rows = np.empty((len(ids), self.length + 1), dtype=np.int64)
        for row, id in enumerate(ids.tolist()):
            packing, start = self._place(id)
            rows[row] = read(packing, start, start + self.length + 1)
        return rows


class ValidationRows:
    """Whole documents of one domain, in a fixed order, as padded rows.

    The documents form one stream, separator, document, separator, ..., that is cut into rows of length + 1 tokens
    which overlap by one, so that every token of the chosen documents, and each trailing separator, is predicted
    exactly once.

    Args:
        split: usually `validation`.
        domain: one of its domains.
        length: predictions per row.
        max_tokens: documents are taken in keyed order while they fit into this many tokens; the first always is.

    Attributes:
        rows: tokens, int64 [R, length + 1], the last row filled up with the padding token; and valid, int64 [R]: how
            many tokens of each row are not padding, so that valid - 1 of them are predicted.
        row_documents: int64 [R, length + 1]: each token's document in the split; -1 for padding.
        row_tags: int64 [R, length + 1]: each token's part of speech, 0 for padding; None where the data have none.
        documents: int64 [n_documents]: indices of the chosen documents in the split, in the order of the stream.
        n_documents: how many were chosen.
        n_bytes: UTF-8 bytes of their text.
    """

    def __init__(self, split: Split, domain: str, length: int, max_tokens: int) -> None:
        of_domain = documents_of(split, domain)
        order = of_domain[KeyedPermutation(len(of_domain), "validation", domain)(np.arange(len(of_domain)))]
        fitting = int(np.searchsorted(np.cumsum(split.document_lengths(order)), max_tokens, side="right"))
        self.documents: Int64Array = order[: max(1, fitting)]
        self.n_documents = len(self.documents)
        self.n_bytes = int(split.documents()["bytes"].to_numpy()[self.documents].sum())
        packing = Packing(split, self.documents)
        end = packing.n_tokens
        self.rows: tuple[Int64Array, Int64Array] = (
            padded_rows(packing.tokens(0, end), length, split.pad_id),
            np.minimum(length + 1, end - np.arange(0, end - 1, length)),
        )
        self.row_documents = padded_rows(packing.documents(0, end), length, -1)
        self.row_tags = padded_rows(packing.tags(0, end), length, 0) if split.tag_names else None


def documents_of(split: Split, domain: str) -> Int64Array:
    """Return the indices of a domain's documents in a split, int64, ascending.

    Raises:
        PicoLMError: it has none.
    """
    found = split.domain_documents(domain)
    if not len(found):
        raise PicoLMError(f"the {split.name} split has no domain '{domain}'{nearest(domain, split.domains)}")
    return found


def padded_rows(stream: Int64Array, length: int, filler: int) -> Int64Array:
    """Cut a stream into rows that overlap by one, the last one filled up, int64 [R, length + 1]."""
    n_rows = -(-(len(stream) - 1) // length)
    padded = np.full(n_rows * length + 1, filler, dtype=np.int64)
    padded[: len(stream)] = stream
    starts = np.arange(n_rows, dtype=np.int64) * length
    return np.asarray(padded[starts[:, None] + np.arange(length + 1)], dtype=np.int64)
