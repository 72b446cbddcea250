"""Sources -> documents, streaming: every mistake in a file is named by file and line."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from picolm.config.schema import Data
from picolm.errors import PicoLMError, nearest
from picolm.text.document import JSON, Document
from picolm.text.pieces import split_text
from picolm.text.sources import SourceFile

_BOM = b"\xef\xbb\xbf"


class DocumentReader(Iterator[Document]):
    """The documents of one source, in order; memory stays flat for JSONL.

    Documents whose text is empty or only white space are left out. Blank lines of a JSONL file are skipped.

    Attributes:
        dropped: how many blank documents were left out so far.
        bytes_read: how far the source is read, of `source.size`.
    """

    def __init__(self, source: SourceFile, data: Data) -> None:
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
        if self.source.path is None:
            yield from self._read_embedded()
            return
        try:
            with self.source.path.open("rb") as file:
                if self.source.suffix == ".txt":
                    yield from self._read_text(file)
                else:
                    yield from self._read_records(file)
        except OSError as error:
            raise PicoLMError(f"cannot read {self.source}: {error.strerror or error}") from error

    def _read_embedded(self) -> Iterator[Document]:
        assert self.source.corpus is not None
        n_documents, size = self.source.corpus.n_documents, self.source.size
        for number, document in enumerate(self.source.corpus.documents(), start=1):
            # Counted in documents: the size of most corpora is an estimate.
            self.bytes_read = size * number // n_documents
            yield document

    def _read_text(self, file: BinaryIO) -> Iterator[Document]:
        content = file.read()
        self.bytes_read = len(content)
        if not content.removeprefix(_BOM):
            raise PicoLMError(f"{self.source} is empty")
        # Windows' line ends would otherwise become tokens that no other corpus has.
        text = self._decode(content.removeprefix(_BOM)).replace("\r\n", "\n")
        line, counted, line_start = 1, 0, 0
        for start, part in split_text(text, self._data.txt_documents):
            line += text.count("\n", counted, start)
            line_start = text.rfind("\n", counted, start) + 1 or line_start
            counted = start
            column = f":{start - line_start + 1}" if start > line_start else ""
            yield Document(f"{self.source.name}:{line}{column}", part, self.source.stem)

    def _read_records(self, file: BinaryIO) -> Iterator[Document]:
        n_records = 0
        for number, line in enumerate(self._lines(file), start=1):
            self.bytes_read = file.tell()
            if line := line.removeprefix(_BOM if number == 1 else b"").strip():
                n_records += 1
                yield self._document(self._record(line, number), number)
        if not n_records:
            raise PicoLMError(f"{self.source} is empty: it has no records")

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        if self.source.suffix == ".jsonl":
            yield from file
            return
        number = 1
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                for line in unpacked:
                    yield line
                    number += 1
        except EOFError as error:
            raise PicoLMError(f"{self.source} is truncated: the gzip stream ends within line {number}") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise PicoLMError(f"{self.source} is not valid gzip, at line {number}: {error}") from error

    def _decode(self, content: bytes, line: int | None = None) -> str:
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            number = line or content.count(b"\n", 0, error.start) + 1
            before = content.rfind(b"\n", 0, error.start) + 1
            raise PicoLMError(
                f"{self.source}, line {number}: byte 0x{content[error.start]:02x} at offset {error.start - before} "
                "of the line is not valid UTF-8; convert the file to UTF-8"
            ) from error

    def _record(self, line: bytes, number: int) -> dict[str, JSON]:
        text = self._decode(line, number)
        try:
            # Python writes NaN and Infinity, which JSON cannot hold; they are read as null.
            record = json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
        except json.JSONDecodeError as error:
            raise self._error(number, f"is not valid JSON: {error.msg} at column {error.colno}") from error
        except (ValueError, RecursionError) as error:
            raise self._error(number, f"is not usable JSON: {error}") from error
        if not isinstance(record, dict):
            raise self._error(number, f"is not a JSON object but {_describe(record)}")
        return record

    def _document(self, record: dict[str, JSON], number: int) -> Document:
        field = self._data.text_field
        if field not in record:
            hint = nearest(field, record) or "; the record has no fields"
            raise self._error(number, f"has no text field '{field}'{hint}", " (data.text_field names it)")
        text = record[field]
        if not isinstance(text, str):
            raise self._error(number, f"has {_describe(text)} as its '{field}', which must be a string")
        given_id, given_domain = record.get("id"), record.get(self._data.domain_field)
        if isinstance(given_domain, list | dict):
            name = self._data.domain_field
            raise self._error(number, f"has {_describe(given_domain)} as its '{name}', which must be a string")
        is_named = isinstance(given_id, str | int | float) and not isinstance(given_id, bool)
        document = Document(
            id=str(given_id) if is_named else f"{self.source.name}:{number}",
            text=text,
            domain=self.source.stem if given_domain in (None, "") else str(given_domain),
            metadata={
                key: value
                for key, value in record.items()
                if key not in (field, self._data.domain_field) and not (key == "id" and is_named)
            },
        )
        for name, value in (("text", document.text), ("id", document.id), ("domain", document.domain)):
            if not _is_unicode(value):
                raise self._error(number, f"has half of a surrogate pair (\\ud800 to \\udfff) in its {name}")
        return document

    def _error(self, line: int, problem: str, advice: str = "") -> PicoLMError:
        return PicoLMError(f"{self.source}, line {line} {problem}{advice}")


def read_documents(source: SourceFile, data: Data) -> DocumentReader:
    """Read a source's documents.

    Args:
        source: one file, from `picolm.text.sources.expand`.
        data: names the text and domain fields, and says what a document is in a .txt file.

    Returns:
        An iterator of documents that counts what it drops.

    Raises:
        PicoLMError: while iterating: the file is empty, damaged or not what its suffix says; named by file and line.
    """
    return DocumentReader(source, data)


def _describe(value: JSON) -> str:
    if value is None:
        return "null"
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return kinds[type(value)]


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
