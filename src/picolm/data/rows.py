"""Rows of tokens: how a stream is cut into sequences of equal length."""

from __future__ import annotations

from typing import Any

import numpy as np

from picolm.data.permutation import KeyedPermutation
from picolm.data.split import Split
from picolm.errors import PicoLMError

Int64Array = np.ndarray[Any, np.dtype[np.int64]]


class Rows:
    """A split packed without gaps: row i is the stream's tokens [i * length, i * length + length + 1).

    The first `length` tokens of a row are inputs, the last `length` are targets, so that every token of the stream but
    the first (and a rest shorter than a row) is predicted exactly once.

    Attributes:
        n_rows: how many there are.
        length: predictions per row.
    """

    def __init__(self, split: Split, length: int) -> None:
        self.length = length
        self.n_rows = (split.n_tokens - 1) // length
        self._split = split
        if self.n_rows < 1:
            raise PicoLMError(
                f"the {split.name} split has {split.n_tokens} tokens, too few for one row of {length} + 1: "
                "give more text or a smaller data.sequence_length"
            )

    def read(self, ids: Int64Array) -> Int64Array:
        """Return rows.

        Args:
            ids: int64 [R], each in range(n_rows), in any order.

        Returns:
            int64 [R, length + 1].

        Raises:
            IndexError: an id is outside range(n_rows).
        """
        rows = np.empty((len(ids), self.length + 1), dtype=np.int64)
        for row, id in enumerate(ids.tolist()):
            if not 0 <= id < self.n_rows:
                raise IndexError(f"row {id} of {self.n_rows}")
            rows[row] = self._split.tokens(id * self.length, (id + 1) * self.length + 1)
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
        documents: int64 [n_documents]: indices of the chosen documents in the split, in the order of the stream.
        n_documents: how many were chosen.
        n_bytes: UTF-8 bytes of their text.
    """

    def __init__(self, split: Split, domain: str, length: int, max_tokens: int) -> None:
        of_domain = split.domain_documents(domain)
        if not len(of_domain):
            raise PicoLMError(f"the {split.name} split has no domain '{domain}'; it has {', '.join(split.domains)}")
        order = of_domain[KeyedPermutation(len(of_domain), "validation", domain)(np.arange(len(of_domain)))]
        fitting = int(np.searchsorted(np.cumsum(split.document_lengths(order)), max_tokens, side="right"))
        self.documents: Int64Array = order[: max(1, fitting)]
        self.n_documents = len(self.documents)
        self.n_bytes = int(split.documents()["bytes"].to_numpy()[self.documents].sum())
        parts = [split.tokens(*split.document_span(document)) for document in self.documents.tolist()]
        stream = np.concatenate([np.array([split.separator_id], dtype=np.int64), *parts])
        self.rows: tuple[Int64Array, Int64Array] = _padded_rows(stream, length, split.pad_id)


def _padded_rows(stream: Int64Array, length: int, pad_id: int) -> tuple[Int64Array, Int64Array]:
    n_rows = -(-(len(stream) - 1) // length)
    padded = np.full(n_rows * length + 1, pad_id, dtype=np.int64)
    padded[: len(stream)] = stream
    starts = np.arange(n_rows, dtype=np.int64) * length
    return padded[starts[:, None] + np.arange(length + 1)], np.minimum(length + 1, len(stream) - starts)
