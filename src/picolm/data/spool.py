"""What was read, set aside on disk: sources are read once, then every stage takes texts from here, in any process."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from picolm.data.tagging import Int32Array, packed
from picolm.text.document import Document

_FOLDER = ".spool"
_TEXTS = "texts.bin"
_FACTS = "facts.jsonl"
_TAGS = "tags.bin"
_FILES = (_TEXTS, _FACTS, _TAGS)
_TAG_BYTES = 3 * 4


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
        folder: of the spool.
        start: where the first text begins in the file of texts.
        sizes: UTF-8 bytes of each text.
        first_tag: how many tags the documents before have.
        n_tags: how many each has; None where no document of the spool has any.
    """

    folder: Path
    start: int
    sizes: tuple[int, ...]
    first_tag: int
    n_tags: tuple[int, ...] | None

    def texts(self) -> list[str]:
        """Read the texts."""
        content = _read(self.folder / _TEXTS, self.start, sum(self.sizes))
        ends = np.cumsum(self.sizes).tolist()
        return [content[end - size : end].decode() for end, size in zip(ends, self.sizes, strict=True)]

    def tags(self) -> list[Int32Array] | None:
        """Read the parts of speech of each text, int32 [tags, 3], as `tagging.packed` makes them."""
        if self.n_tags is None:
            return None
        content = _read(self.folder / _TAGS, self.first_tag * _TAG_BYTES, sum(self.n_tags) * _TAG_BYTES)
        return np.split(np.frombuffer(content, dtype=np.int32).reshape(-1, 3), np.cumsum(self.n_tags)[:-1])


class Spool:
    """Texts and facts of documents in the order in which they came. Use it as a context manager.

    In memory there are 16 bytes a document; the rest is in temporary files.

    Args:
        directory: where the files are put; they are removed at the end.

    Attributes:
        has_tags: whether any document has parts of speech.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / _FOLDER
        self._sizes, self._n_tags = array("q"), array("q")
        self.has_tags = False

    def __enter__(self) -> Spool:
        self._folder.mkdir()
        self._files: dict[str, IO[bytes]] = {name: (self._folder / name).open("wb") for name in _FILES}
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
        self._files[_TAGS].write(packed(document.tags).tobytes())
        self._sizes.append(len(text))
        self._n_tags.append(len(document.tags))
        self.has_tags |= bool(document.tags)

    @property
    def sizes(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """UTF-8 bytes of each text, int64 [documents]."""
        return np.array(self._sizes, dtype=np.int64)

    def chunks(self, max_bytes: int) -> Iterator[Chunk]:
        """Cut the documents into chunks: each ends with the document that brings it to `max_bytes` of text."""
        self._flush()
        start = size = first = first_tag = 0
        for last, one in enumerate(self._sizes, start=1):
            size += one
            if size >= max_bytes or last == len(self._sizes):
                n_tags = tuple(self._n_tags[first:last])
                sizes = tuple(self._sizes[first:last])
                yield Chunk(self._folder, start, sizes, first_tag, n_tags if self.has_tags else None)
                start, size, first, first_tag = start + size, 0, last, first_tag + sum(n_tags)

    def facts(self) -> Iterator[Facts]:
        """Read what is known of each document, in order."""
        self._flush()
        with (self._folder / _FACTS).open("rb") as file:
            for line in file:
                yield Facts(*json.loads(line))

    def _flush(self) -> None:
        for file in self._files.values():
            file.flush()


def _read(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)
