"""One split of prepared data: a stream of tokens, memory-mapped, and the documents it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from picolm.data.manifest import DomainCounts, Manifest, SplitName
from picolm.errors import PicoLMError

Int64Array = np.ndarray[Any, np.dtype[np.int64]]


class Split:
    """Separator, document 0, separator, document 1, separator, ...; reading it is safe from several threads.

    Attributes:
        name: `train` or `validation`.
        n_tokens: length of the stream.
        n_documents: how many documents it holds; 0 where nothing was held out.
        domains: counts by domain.
        separator_id: the token before, between and after documents.
        pad_id: what fills up rows that are longer than their text.
        tag_names: the parts of speech that the numbers from 1 beside the tokens mean; empty where there are none.
    """

    def __init__(self, directory: Path, name: SplitName, manifest: Manifest) -> None:
        described = manifest.splits[name]
        self.name = name
        self.n_tokens = described.tokens
        self.n_documents = described.documents
        self.domains: Mapping[str, DomainCounts] = described.domains
        self.separator_id = manifest.tokenizer.separator_id
        self.pad_id = manifest.tokenizer.pad_id
        self._table_path = directory / described.documents_table.file
        self.tag_names = manifest.tag_names
        dtype = np.dtype(manifest.token_type).newbyteorder("<")
        self._shards = [np.memmap(directory / shard.file, dtype=dtype, mode="r") for shard in described.shards]
        self._tags = [np.memmap(directory / shard.file, dtype=np.uint8, mode="r") for shard in described.tags]
        self._shard_starts = np.cumsum([0, *(shard.tokens for shard in described.shards)])
        self._offsets = self._load_offsets(directory / described.offsets.file)

    def tokens(self, start: int, stop: int) -> Int64Array:
        """Return the tokens of [start, stop), int64 [stop - start]; IndexError beyond the stream."""
        return self._read(self._shards, start, stop)

    def tags(self, start: int, stop: int) -> Int64Array:
        """Return the parts of speech of tokens: 0, or 1 + index in `tag_names`, int64 [stop - start].

        Raises:
            PicoLMError: no document of the prepared data has parts of speech.
            IndexError: the span is beyond the stream.
        """
        if not self._tags:
            raise PicoLMError(
                f"the tokens of {self._table_path.parent} have no parts of speech: prepare sources that have them "
                "(CoNLL-U, or records with `tokens` and `upos`)"
            )
        return self._read(self._tags, start, stop)

    def document_numbers(self, start: int, stop: int) -> Int64Array:
        """Return which document each token of [start, stop) belongs to, as `document_at`, int64 [stop - start]."""
        if start == stop:
            return np.empty(0, dtype=np.int64)
        first, last = self.document_at(np.array([start, stop - 1])).tolist()
        borders = np.clip(np.asarray(self._offsets[first + 1 : last + 1]), start, stop)
        return np.repeat(np.arange(first, last + 1), np.diff([start, *borders, stop]))

    def _read(self, shards: list[np.memmap[Any, Any]], start: int, stop: int) -> Int64Array:
        if not 0 <= start <= stop <= self.n_tokens:
            raise IndexError(f"tokens {start} to {stop} of the {self.n_tokens} tokens in {self.name}")
        result = np.empty(stop - start, dtype=np.int64)
        done = 0
        index = int(np.searchsorted(self._shard_starts, start, side="right")) - 1
        while done < len(result):
            offset = start + done - int(self._shard_starts[index])
            part = shards[index][offset : offset + len(result) - done]
            result[done : done + len(part)] = part
            done += len(part)
            index += 1
        return result

    def document_at(self, positions: Int64Array) -> Int64Array:
        """Return which document each position of the stream belongs to, int64 of the same shape.

        A document's trailing separator belongs to it, and the separator at position 0 to document 0.
        """
        positions = np.asarray(positions, dtype=np.int64)
        if positions.size and (positions.min() < 0 or positions.max() >= self.n_tokens or not self.n_documents):
            raise IndexError(f"positions must be in range({self.n_tokens}) and {self.name} must hold documents")
        found = np.searchsorted(self._offsets, positions, side="right") - 1
        return np.asarray(np.maximum(found, 0), dtype=np.int64)

    def document_span(self, document: int) -> tuple[int, int]:
        """Return where a document begins and ends in the stream, its trailing separator included."""
        if not 0 <= document < self.n_documents:
            raise IndexError(f"document {document} of the {self.n_documents} documents in {self.name}")
        return int(self._offsets[document]), int(self._offsets[document + 1])

    def document_lengths(self, documents: Int64Array) -> Int64Array:
        """Return the tokens of each document, its trailing separator included, int64 of the same shape."""
        return np.asarray(self._offsets[documents + 1] - self._offsets[documents], dtype=np.int64)

    def documents(self) -> pa.Table:
        """Return the table of documents: id, domain, source, bytes, characters, metadata (a JSON string)."""
        return self._table

    def domain_documents(self, domain: str) -> Int64Array:
        """Return the indices of a domain's documents, int64, ascending; empty for an unknown domain."""
        found = self._domain_column == domain
        return np.flatnonzero(found).astype(np.int64)

    @cached_property
    def _table(self) -> pa.Table:
        try:
            table = pq.read_table(self._table_path)
        except (OSError, pa.ArrowException) as error:
            raise PicoLMError(f"{self._table_path} is damaged: {error}; prepare the data again") from error
        if table.num_rows != self.n_documents:
            raise PicoLMError(f"{self._table_path} has {table.num_rows} rows for {self.n_documents} documents")
        return table

    @cached_property
    def _domain_column(self) -> np.ndarray[Any, Any]:
        return np.asarray(self._table["domain"].to_numpy())

    def _load_offsets(self, path: Path) -> Int64Array:
        try:
            offsets = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise PicoLMError(f"{path} is damaged: {error}; prepare the data again") from error
        if offsets.shape != (self.n_documents + 1,) or int(offsets[0]) != 1 or int(offsets[-1]) != self.n_tokens:
            raise PicoLMError(f"{path} does not fit the manifest beside it; prepare the data again")
        return np.asarray(offsets)
