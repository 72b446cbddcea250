"""What was read, set aside on disk: sources are read once, then every stage takes texts from here, in any process."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from picolm.text.document import Document

_FOLDER = ".spool"
_TEXTS = "texts.bin"
_FACTS = "facts.jsonl"


class Facts(NamedTuple):
    """What the table of documents says of a document; `metadata` is a JSON string."""

    id: str
    domain: str
    source: str
    bytes: int
    characters: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some neighbouring documents: enough for a worker to find their texts.

    Attributes:
        start: where the first text begins in the file of texts.
        sizes: UTF-8 bytes of each text.
    """

    file: Path
    start: int
    sizes: tuple[int, ...]

    def texts(self) -> list[str]:
        """Read the texts."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            content = file.read(sum(self.sizes))
        ends = np.cumsum(self.sizes).tolist()
        return [content[end - size : end].decode() for end, size in zip(ends, self.sizes, strict=True)]


class Spool:
    """Texts and facts of documents in the order in which they came. Use it as a context manager.

    In memory there are 8 bytes a document; the rest is in two temporary files.

    Args:
        directory: where the files are put; they are removed at the end.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / _FOLDER
        self._sizes = array("q")

    def __enter__(self) -> Spool:
        self._folder.mkdir()
        self._files: dict[str, IO[bytes]] = {name: (self._folder / name).open("wb") for name in (_TEXTS, _FACTS)}
        return self

    def __exit__(self, *_: object) -> None:
        for name, file in self._files.items():
            file.close()
            (self._folder / name).unlink()
        self._folder.rmdir()

    def add(self, document: Document, source: str, text: bytes) -> None:
        """Set a document aside; `text` is its text in UTF-8."""
        metadata = json.dumps(document.metadata, allow_nan=False)
        facts = Facts(document.id, document.domain, source, len(text), len(document.text), metadata)
        self._files[_TEXTS].write(text)
        self._files[_FACTS].write(json.dumps(facts).encode() + b"\n")
        self._sizes.append(len(text))

    @property
    def sizes(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """UTF-8 bytes of each text, int64 [documents]."""
        return np.array(self._sizes, dtype=np.int64)

    def chunks(self, max_bytes: int) -> Iterator[Chunk]:
        """Cut the documents into chunks: each ends with the document that brings it to `max_bytes` of text."""
        self._flush()
        path = self._folder / _TEXTS
        start = size = 0
        sizes: list[int] = []
        for one in self._sizes:
            sizes.append(one)
            size += one
            if size >= max_bytes:
                yield Chunk(path, start, tuple(sizes))
                start, size, sizes = start + size, 0, []
        if sizes:
            yield Chunk(path, start, tuple(sizes))

    def facts(self) -> Iterator[Facts]:
        """Read what is known of each document, in order."""
        self._flush()
        with (self._folder / _FACTS).open("rb") as file:
            for line in file:
                yield Facts(*json.loads(line))

    def _flush(self) -> None:
        for file in self._files.values():
            file.flush()
