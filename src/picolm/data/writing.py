"""Writing one split of a prepared directory, streaming: token shards, offsets, documents table."""

from __future__ import annotations

import hashlib
import json
from array import array
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from picolm.data.manifest import DocumentsTable, DomainCounts, Shard, SplitManifest, StoredFile
from picolm.data.spool import Facts
from picolm.data.tagging import NONE, UInt8Array
from picolm.runs.digest import sha256_of_file

SHARD_BYTES = 2**27

_ROWS_PER_GROUP = 16_384
_COLUMNS = pa.schema(
    [
        ("id", pa.string()),
        ("domain", pa.string()),
        ("source", pa.string()),
        ("bytes", pa.int64()),
        ("characters", pa.int64()),
        ("metadata", pa.string()),
    ]
)


class SplitWriter:
    """Writes documents in the order in which they come.

    Args:
        directory: the prepared directory in the making.
        name: of the split, and of its folder.
        separator_id: the token before, between and after documents.
        token_type: little-endian unsigned integers that hold every id.
        tagged: whether each token has a part of speech, or `tagging.NONE`.
    """

    def __init__(self, directory: Path, name: str, separator_id: int, token_type: str, *, tagged: bool = False) -> None:
        self._root, self._name = directory, name
        (directory / name).mkdir()
        self._separator_id = separator_id
        dtype = np.dtype(token_type).newbyteorder("<")
        # Tags are cut where tokens are: a shard of the one belongs to a shard of the other.
        per_shard = SHARD_BYTES // dtype.itemsize
        self._tokens = _Shards(directory, f"{name}/tokens", dtype, per_shard)
        self._tags = _Shards(directory, f"{name}/tags", np.dtype(np.uint8), per_shard) if tagged else None
        self._offsets = array("q")
        self._domains: dict[str, list[int]] = {}
        self._rows: list[dict[str, Any]] = []
        self._rows_hash = hashlib.sha256()
        self._table = pq.ParquetWriter(directory / name / "documents.parquet", _COLUMNS)
        self._append(np.array([], dtype=np.int64), None)

    def add(self, facts: Facts, ids: np.ndarray[Any, Any], tags: UInt8Array | None = None) -> None:
        """Append a document: `ids` are its tokens without any separator, `tags` their parts of speech."""
        self._offsets.append(self._tokens.length)
        self._append(ids, tags)
        counts = self._domains.setdefault(facts.domain, [0, 0, 0])
        for index, more in enumerate((1, len(ids) + 1, facts.bytes)):
            counts[index] += more
        row = facts._asdict()
        self._rows_hash.update(json.dumps(row).encode() + b"\n")
        self._rows.append(row)
        # By count, not by chunk: the bytes of the table must not depend on how the work was divided.
        if len(self._rows) == _ROWS_PER_GROUP:
            self._write_rows()

    def finish(self) -> SplitManifest:
        """Close all files."""
        self._write_rows()
        self._table.close()
        self._offsets.append(self._tokens.length)
        np.save(self._root / self._name / "offsets.npy", np.array(self._offsets, dtype="<i8"), allow_pickle=False)
        table = self._stored("documents.parquet")
        return SplitManifest(
            tokens=self._tokens.length,
            documents=len(self._offsets) - 1,
            shards=self._tokens.finish(),
            domains={domain: DomainCounts(*counts) for domain, counts in sorted(self._domains.items())},
            offsets=self._stored("offsets.npy"),
            documents_table=DocumentsTable(table.file, table.bytes, table.sha256, self._rows_hash.hexdigest()),
            tags=() if self._tags is None else self._tags.finish(),
        )

    def close(self) -> None:
        """Release the files of a split that will not be finished."""
        self._tokens.close()
        if self._tags is not None:
            self._tags.close()
        self._table.close()

    def _append(self, ids: np.ndarray[Any, Any], tags: UInt8Array | None) -> None:
        self._tokens.append(np.append(ids, self._separator_id))
        if self._tags is not None:
            self._tags.append(np.append(np.full(len(ids), NONE) if tags is None else tags, NONE))

    def _write_rows(self) -> None:
        if self._rows:
            self._table.write_table(pa.Table.from_pylist(self._rows, schema=_COLUMNS))
            self._rows = []

    def _stored(self, name: str) -> StoredFile:
        path = self._root / self._name / name
        return StoredFile(f"{self._name}/{name}", path.stat().st_size, sha256_of_file(path))


class _Shards:
    """A stream of numbers, cut into files of equal length."""

    def __init__(self, directory: Path, stem: str, dtype: np.dtype[Any], per_shard: int) -> None:
        self.length = 0
        self._directory, self._stem, self._type, self._per_shard = directory, stem, dtype, per_shard
        self._finished: list[Shard] = []
        self._open: _OpenShard | None = None

    def append(self, numbers: np.ndarray[Any, Any]) -> None:
        self.length += len(numbers)
        while len(numbers):
            if self._open is None:
                self._open = _OpenShard(self._directory, f"{self._stem}-{len(self._finished):05}.bin")
            room = self._per_shard - self._open.tokens
            self._open.write(numbers[:room].astype(self._type))
            numbers = numbers[room:]
            if self._open.tokens == self._per_shard:
                self._finish_open()

    def finish(self) -> tuple[Shard, ...]:
        self._finish_open()
        return tuple(self._finished)

    def close(self) -> None:
        if self._open is not None:
            self._open.file.close()

    def _finish_open(self) -> None:
        if self._open is not None:
            self._finished.append(self._open.finish())
            self._open = None


class _OpenShard:
    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.file: IO[bytes] = (directory / name).open("wb")
        self.tokens = self.bytes = 0
        self._hash = hashlib.sha256()

    def write(self, ids: np.ndarray[Any, Any]) -> None:
        content = ids.tobytes()
        self.file.write(content)
        self._hash.update(content)
        self.tokens += len(ids)
        self.bytes += len(content)

    def finish(self) -> Shard:
        self.file.close()
        return Shard(self.name, self.tokens, self.bytes, self._hash.hexdigest())
