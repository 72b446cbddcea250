"""Lines of a UTF-8 file, plain or gzipped; whatever damages the file is named by line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from picolm.errors import PicoLMError

BOM = b"\xef\xbb\xbf"


class Lines(Iterator[tuple[int, bytes]]):
    """Numbered lines of an open file, from 1, without a byte-order mark; memory stays flat.

    Args:
        name: what errors call the file.
        file: opened in binary mode.
        packed: whether it is gzipped.

    Attributes:
        bytes_read: how far the stored file is read.
    """

    def __init__(self, name: str, file: BinaryIO, *, packed: bool) -> None:
        self.name = name
        self.bytes_read = 0
        self._file = file
        self._numbered = enumerate(self._unpacked() if packed else file, start=1)

    def __next__(self) -> tuple[int, bytes]:
        number, line = next(self._numbered)
        self.bytes_read = self._file.tell()
        return number, line.removeprefix(BOM) if number == 1 else line

    def _unpacked(self) -> Iterator[bytes]:
        number = 1
        try:
            with gzip.GzipFile(fileobj=self._file) as unpacked:
                for line in unpacked:
                    yield line
                    number += 1
        except EOFError as error:
            raise PicoLMError(f"{self.name} is truncated: the gzip stream ends within line {number}") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise PicoLMError(f"{self.name} is not valid gzip, at line {number}: {error}") from error


def decode(name: str, content: bytes, line: int | None = None) -> str:
    """Decode UTF-8.

    Args:
        name: what errors call the file.
        content: a line, or a whole file.
        line: the number of the line; None: `content` is the file from its beginning.

    Raises:
        PicoLMError: a byte is not UTF-8; named by line and place.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        number = line or content.count(b"\n", 0, error.start) + 1
        before = content.rfind(b"\n", 0, error.start) + 1
        raise PicoLMError(
            f"{name}, line {number}: byte 0x{content[error.start]:02x} at offset {error.start - before} "
            "of the line is not valid UTF-8; convert the file to UTF-8"
        ) from error
