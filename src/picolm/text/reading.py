"""Sources -> documents, streaming: every mistake in a file is named by file and line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from picolm.config.schema import Data
from picolm.errors import PicoLMError
from picolm.text.chat import read_chat
from picolm.text.conllu import read_conllu
from picolm.text.document import JSON, Document
from picolm.text.hub import HubDataset, read_dataset
from picolm.text.lines import BOM, Lines, decode
from picolm.text.pieces import split_text
from picolm.text.records import describe, document_of
from picolm.text.sources import Source, SourceFile


class DocumentReader(Iterator[Document]):
    """The documents of one source, in order; memory stays flat for everything but .txt.

    Documents whose text is empty or only white space are left out. Blank lines of a JSONL file are skipped.

    Attributes:
        dropped: how many blank documents were left out so far.
        bytes_read: how far the source is read, of `source.size`.
    """

    def __init__(self, source: Source, data: Data) -> None:
        self.source = source
        self.dropped = 0
        self.bytes_read = 0
        self._data = data
        self._documents = self._read()

    def __next__(self) -> Document:
        for document in self._documents:
            if document.text and not document.text.isspace():
                return document
            self.dropped += 1
        raise StopIteration

    def _read(self) -> Iterator[Document]:
        if isinstance(self.source, HubDataset):
            yield from read_dataset(self.source, self._data)
        elif self.source.path is None:
            yield from self._read_embedded(self.source)
        else:
            try:
                yield from self._read_file(self.source, self.source.path)
            except OSError as error:
                raise PicoLMError(f"cannot read {self.source}: {error.strerror or error}") from error

    def _read_file(self, source: SourceFile, path: Path) -> Iterator[Document]:
        if source.suffix == ".txt":
            yield from self._read_text(source, path)
        elif source.suffix == ".parquet":
            from picolm.text.parquet import read_parquet

            yield from read_parquet(source, self._data, self._progress)
        else:
            with path.open("rb") as file:
                lines = Lines(str(source), file, packed=source.suffix.endswith(".gz"))
                documents = self._documents_of(source, lines)
                for document in documents:
                    self.bytes_read = lines.bytes_read
                    yield document
                self.bytes_read = lines.bytes_read

    def _documents_of(self, source: SourceFile, lines: Lines) -> Iterator[Document]:
        if source.suffix.startswith(".conllu"):
            return read_conllu(lines, source.stem, source.name)
        if source.suffix == ".cha":
            return read_chat(lines, source.stem, source.name)
        return self._records(source, lines)

    def _progress(self, n_bytes: int) -> None:
        self.bytes_read = min(n_bytes, self.source.size)

    def _read_embedded(self, source: SourceFile) -> Iterator[Document]:
        assert source.corpus is not None
        n_documents, size = source.corpus.n_documents, source.size
        for number, document in enumerate(source.corpus.documents(), start=1):
            # Counted in documents: the size of most corpora is an estimate.
            self.bytes_read = size * number // n_documents
            yield document

    def _read_text(self, source: SourceFile, path: Path) -> Iterator[Document]:
        content = path.read_bytes()
        self.bytes_read = len(content)
        if not content.removeprefix(BOM):
            raise PicoLMError(f"{source} is empty")
        # Windows' line ends would otherwise become tokens that no other corpus has.
        text = decode(str(source), content.removeprefix(BOM)).replace("\r\n", "\n")
        line, counted, line_start = 1, 0, 0
        for start, part in split_text(text, self._data.txt_documents):
            line += text.count("\n", counted, start)
            line_start = text.rfind("\n", counted, start) + 1 or line_start
            counted = start
            column = f":{start - line_start + 1}" if start > line_start else ""
            yield Document(f"{source.name}:{line}{column}", part, source.stem)

    def _records(self, source: SourceFile, lines: Lines) -> Iterator[Document]:
        n_records = 0
        for number, line in lines:
            if stripped := line.strip():
                n_records += 1
                place = f"{source}, line {number}"
                record = parse_record(decode(lines.name, stripped, number), place)
                yield document_of(record, self._data, id=f"{source.name}:{number}", domain=source.stem, place=place)
        if not n_records:
            raise PicoLMError(f"{source} is empty: it has no records")


def read_documents(source: Source, data: Data) -> DocumentReader:
    """Read a source's documents.

    Args:
        source: from `picolm.text.sources.expand`.
        data: names the text and domain fields, and says what a document is in a .txt file.

    Returns:
        An iterator of documents that counts what it drops.

    Raises:
        PicoLMError: while iterating: the source is empty, damaged or not what its suffix says; named by file and line.
    """
    return DocumentReader(source, data)


def parse_record(text: str, place: str) -> dict[str, JSON]:
    """Read one line of JSON, which must be an object; `place` begins its errors."""
    try:
        # Python writes NaN and Infinity, which JSON cannot hold; they are read as null.
        record = json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise PicoLMError(f"{place} is not valid JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise PicoLMError(f"{place} is not usable JSON: {error}") from error
    if not isinstance(record, dict):
        raise PicoLMError(f"{place} is not a JSON object but {describe(record)}")
    return record


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None
