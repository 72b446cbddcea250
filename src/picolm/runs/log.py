"""Append-only JSON lines: the log, the timings and the attempts of a run.

JSON has no NaN: numbers that are not finite are written as the strings "NaN", "Infinity" and "-Infinity" and read back
as floats. What a person or a model wrote (`prompt`, `text`) is never taken for a number.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from picolm.errors import PicoLMError
from picolm.runs.durable import explained, put_aside, write_text

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_TAIL_BYTES = 4096
_WRITTEN_BY_PEOPLE = frozenset({"event", "prompt", "text", "command"})


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a growing file had come: its length, and the SHA-256 of what it held by then."""

    n_bytes: int
    sha256: str

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"bytes": self.n_bytes, "sha256": self.sha256}

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Mark:
        """From JSON; KeyError or TypeError where it is not a mark."""
        return cls(int(value["bytes"]), str(value["sha256"]))

    def fits(self, path: Path) -> bool:
        """Whether a file still begins with what it held at this mark."""
        try:
            with path.open("rb") as file:
                return hashlib.sha256(file.read(self.n_bytes)).hexdigest() == self.sha256
        except OSError:
            return False


class LogWriter:
    """Appends lines to a file, a batch at a time; use it as a context manager.

    A torn last line, left by a process that was killed, is cut off when the file is opened.

    Args:
        path: the file; created when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._batch: list[str] = []
        with explained(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            data = path.read_bytes()
            self._length = whole_length(data)
            os.ftruncate(self._file, self._length)
        self._hash = hashlib.sha256(data[: self._length])

    @property
    def mark(self) -> Mark:
        """How far the file has come; what is not committed does not count."""
        return Mark(self._length, self._hash.hexdigest())

    def append(self, line: Mapping[str, Any]) -> None:
        """Add one line to the batch; nothing reaches the file before `commit`."""
        self._batch.append(_encode(line))

    def commit(self) -> None:
        """Write the batch in one call and flush it to disk.

        Raises:
            PicoLMError: the disk is full; the file is as it was before and the batch is kept.
        """
        if not self._batch:
            return
        data = "".join(self._batch).encode("utf-8", "backslashreplace")
        with explained(self.path):
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, self._length)
                raise
        self._length += len(data)
        self._hash.update(data)
        self._batch.clear()

    def close(self) -> None:
        """Commit what is left and close the file."""
        try:
            self.commit()
        finally:
            os.close(self._file)

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_log(path: Path, event: str | None = None) -> list[dict[str, Any]]:
    """Read all lines of a file, or those of one event.

    Args:
        path: the file; one that does not exist yet has no lines.
        event: keep the lines whose `event` this is; None: all.

    Returns:
        The lines in order. A torn last line is left out.

    Raises:
        PicoLMError: another line than the last is torn.
    """
    lines = [line for _, line in read_lines(path)]
    return lines if event is None else [line for line in lines if line.get("event") == event]


def last_line(path: Path) -> dict[str, Any] | None:
    """The last whole line of a file, without reading the others; None where there is none."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, os.SEEK_END)
            for size in (_TAIL_BYTES, length):
                file.seek(max(0, length - size))
                lines = file.read().split(b"\n")
                # The first piece may begin anywhere, the last one is not ended yet.
                for raw in reversed(lines[1:-1] if size < length else lines[:-1]):
                    if (line := _decode(raw)) is not None:
                        return line
    except OSError:
        return None
    return None


def cut_log(path: Path, mark: Mark, step: int) -> str | None:
    """Forget what happened after a step, as a resumed run must.

    Args:
        path: the log.
        mark: how far it had come after that step.
        step: the step. Where the file does not fit the mark any more, it is put aside, and its whole lines up to this
            step are kept.

    Returns:
        A sentence where something was lost; None where all is as it was.

    Raises:
        PicoLMError: the file cannot be written.
    """
    if mark.fits(path):
        with explained(path):
            os.truncate(path, mark.n_bytes)
        return None
    data = path.read_bytes() if path.exists() else b""
    lines = [raw for raw in data[: whole_length(data)].split(b"\n")[:-1]]
    kept = [raw for raw in lines if (line := _decode(raw)) is not None and line.get("step", 0) <= step]
    said = f"{path} was changed since step {step}: its {len(kept)} whole lines were kept"
    if path.exists():
        said += f", the old file is {put_aside(path, 'damaged').name}"
    write_text(path, "".join(f"{raw.decode()}\n" for raw in kept))
    return said


def read_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield each whole line of a file as it stands, without its newline, and what it says.

    Raises:
        PicoLMError: another line than the last is torn.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    # Not splitlines(): a generated text may hold other line separators than the newline.
    for number, raw in enumerate(data[: whole_length(data)].split(b"\n")[:-1], start=1):
        line = _decode(raw)
        if line is None:
            raise PicoLMError(f"{path}, line {number} is not a whole JSON object: repair or remove that line")
        yield raw, line


def whole_length(data: bytes) -> int:
    """Count the bytes up to the end of the last whole line; lines before it are not looked at."""
    length = data.rfind(b"\n") + 1
    last = data[data.rfind(b"\n", 0, max(length - 1, 0)) + 1 : length]
    return length if _decode(last) is not None else length - len(last)


def _encode(line: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(line, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_spelled_out(line), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"{text}\n"


def _spelled_out(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _spelled_out(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled_out(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _decode(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    # Nearly no line holds one, and walking through each would double the time to read a log.
    return _as_numbers(line) if b'"NaN"' in raw or b'Infinity"' in raw else line


def _as_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item if key in _WRITTEN_BY_PEOPLE else _as_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_numbers(item) for item in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
