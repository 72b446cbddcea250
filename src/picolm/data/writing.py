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
    """

    def __init__(self, directory: Path, name: str, separator_id: int, token_type: str) -> None:
        self._root, self._name = directory, name
        (directory / name).mkdir()
        self._separator_id = separator_id
        self._type = np.dtype(token_type).newbyteorder("<")
        self._tokens_per_shard = SHARD_BYTES // self._type.itemsize
        self._shards: list[Shard] = []
        self._shard: _OpenShard | None = None
        self._tokens = 0
        self._offsets = array("q")
        self._domains: dict[str, list[int]] = {}
        self._rows: list[dict[str, Any]] = []
        self._rows_hash = hashlib.sha256()
        self._table = pq.ParquetWriter(directory / name / "documents.parquet", _COLUMNS)
        self._append(np.array([separator_id]))

    def add(self, facts: Facts, ids: np.ndarray[Any, Any]) -> None:
        """Append a document: `ids` are its tokens without any separator."""
        self._offsets.append(self._tokens)
        self._append(np.append(ids, self._separator_id))
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
        self._close_shard()
        self._write_rows()
        self._table.close()
        self._offsets.append(self._tokens)
        np.save(self._root / self._name / "offsets.npy", np.array(self._offsets, dtype="<i8"), allow_pickle=False)
        table = self._stored("documents.parquet")
        return SplitManifest(
            tokens=self._tokens,
            documents=len(self._offsets) - 1,
            shards=tuple(self._shards),
            domains={domain: DomainCounts(*counts) for domain, counts in sorted(self._domains.items())},
            offsets=self._stored("offsets.npy"),
            documents_table=DocumentsTable(table.file, table.bytes, table.sha256, self._rows_hash.hexdigest()),
        )

    def close(self) -> None:
        """Release the files of a split that will not be finished."""
        if self._shard:
            self._shard.file.close()
        self._table.close()

    def _append(self, ids: np.ndarray[Any, Any]) -> None:
        self._tokens += len(ids)
        while len(ids):
            if self._shard is None:
                self._shard = _OpenShard(self._root, f"{self._name}/tokens-{len(self._shards):05}.bin")
            room = self._tokens_per_shard - self._shard.tokens
            self._shard.write(ids[:room].astype(self._type))
            ids = ids[room:]
            if self._shard.tokens == self._tokens_per_shard:
                self._close_shard()

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shards.append(self._shard.finish())
            self._shard = None

    def _write_rows(self) -> None:
        if self._rows:
            self._table.write_table(pa.Table.from_pylist(self._rows, schema=_COLUMNS))
            self._rows = []

    def _stored(self, name: str) -> StoredFile:
        path = self._root / self._name / name
        return StoredFile(f"{self._name}/{name}", path.stat().st_size, sha256_of_file(path))


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
