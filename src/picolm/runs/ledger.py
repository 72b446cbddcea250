"""The ledger of a run: which files were committed when, with their hashes, so that no damage goes unseen.

`ledger.jsonl` has one line for each thing that was completed. Every line ends with a seal, the hash of the seal before
it and of what it says, so a change anywhere in the ledger shows too. Files that grow are held to the length and the
hash that they had.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_file, sha256_of_json
from picolm.runs.log import LogWriter, Mark, read_lines, whole_length
from picolm.runs.manifest import MANIFEST

LEDGER = "ledger.jsonl"
SEAL = "seal"
"""The key of the hash over the seal before, and the line without its own."""


class Ledger:
    """Appends to a run's ledger, from any thread; use it as a context manager, with the run locked.

    Args:
        run_dir: the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._turn = threading.Lock()
        self._writer = LogWriter(run_dir / LEDGER)
        self._last = ""
        for _, line in read_lines(run_dir / LEDGER):
            self._last = str(line.get(SEAL))
        self._known = set(read_ledger(run_dir).committed)

    def committed(self, path: Path, marks: Mapping[str, Mark] | None = None) -> None:
        """Take note that a file, or a directory with a manifest, is complete.

        Args:
            path: in the run.
            marks: how far the growing files of the run had come.
        """
        line = {"event": "committed", "path": self._name(path), "sha256": seal_of(path)}
        self.append(line if marks is None else {**line, "marks": plain_marks(marks)})

    def changing(self, path: Path, sha256: str) -> None:
        """Take note that a file, or a directory's manifest, is about to become another; until then both are right."""
        former = seal_of(path)
        self.append({"event": "committed", "path": self._name(path), "sha256": sha256, "former": former})

    def removed(self, path: Path, reason: str) -> None:
        """Take note that something is about to be removed on purpose."""
        self.append({"event": "removed", "path": self._name(path), "reason": reason})

    def knows(self, path: Path) -> bool:
        """Whether a thing that was there when the ledger was opened is in it."""
        return self._name(path) in self._known

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one line, whole and on the disk."""
        with self._turn:
            seal = _seal(self._last, line)
            self._writer.append({**line, SEAL: seal})
            self._writer.commit()
            self._last = seal

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()

    def _name(self, path: Path) -> str:
        return path.relative_to(self._run_dir).as_posix()


@dataclass
class Holdings:
    """What a ledger says that a run holds.

    Attributes:
        committed: path in the run -> hashes of the file, or of the directory's manifest, any of which is right.
        removed: paths that were removed on purpose.
        marks: growing file -> the last mark of it.
        ended: the step after which the run ended by itself, where that is the last thing that happened.
        faults: sentences about damage of the ledger itself; what follows a fault is not trusted.
    """

    committed: dict[str, tuple[str, ...]]
    removed: dict[str, str]
    marks: dict[str, Mark]
    faults: list[str]
    ended: int | None = None


def read_ledger(run_dir: Path) -> Holdings:
    """Read what a run holds according to its ledger."""
    holdings = Holdings({}, {}, {}, [])
    path = run_dir / LEDGER
    if not path.is_file():
        holdings.faults.append(f"{path} is missing: what the run should hold is not known")
        return holdings
    previous = ""
    try:
        for number, (_, line) in enumerate(read_lines(path), start=1):
            seal = line.pop(SEAL, None)
            if seal != _seal(previous, line):
                raise PicoLMError(f"{path} was changed: line {number} does not fit its seal")
            previous = seal
            _take(holdings, line)
        if (data := path.read_bytes())[whole_length(data) :].endswith(b"\n"):
            # A kill leaves the beginning of a line, never its end.
            raise PicoLMError(f"{path} was changed: its last line is not a whole JSON object")
    except (PicoLMError, KeyError, TypeError, ValueError) as error:
        holdings.ended = None
        holdings.faults.append(str(error) if isinstance(error, PicoLMError) else f"{path} was changed: {error!r}")
    return holdings


def plain_marks(marks: Mapping[str, Mark]) -> dict[str, Any]:
    """Marks as JSON."""
    return {name: mark.plain() for name, mark in marks.items()}


def seal_of(path: Path) -> str:
    """The hash that the ledger keeps of a file; of a directory it is that of its manifest, which has all others."""
    return sha256_of_file(path / MANIFEST if path.is_dir() else path)


def _seal(previous: str, line: Mapping[str, Any]) -> str:
    return sha256_of_json([previous, dict(line)])


def _take(holdings: Holdings, line: Mapping[str, Any]) -> None:
    if line["event"] == "committed":
        holdings.committed[line["path"]] = tuple(line[key] for key in ("sha256", "former") if key in line)
        holdings.removed.pop(line["path"], None)
    elif line["event"] == "removed":
        holdings.committed.pop(line["path"], None)
        holdings.removed[line["path"]] = line["reason"]
    holdings.ended = line["step"] if line["event"] == "ended" else None
    for name, mark in line.get("marks", {}).items():
        holdings.marks[name] = Mark.of(mark)
