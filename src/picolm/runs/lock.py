"""One process at a time writes to a run, or makes an experiment."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from picolm.errors import PicoLMError
from picolm.runs.durable import explained

_PROBE_SECONDS = 0.05
"""Longer than `is_held` takes to look."""


class RunLock:
    """Holds `<run>/.lock` while a process writes to the run; the system frees it when the process dies.

    Args:
        path: the run directory.
        what: what a message calls it.

    Raises:
        PicoLMError: on entering, when another process holds the lock.
    """

    def __init__(self, path: Path, what: str = "run") -> None:
        self.path, self._what = path, what

    def __enter__(self) -> RunLock:
        with explained(self.path / ".lock"):
            self._file = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _lock(self._file)
            except BlockingIOError as error:
                owner = os.read(self._file, 32).decode(errors="replace").strip() or "unknown"
                os.close(self._file)
                raise PicoLMError(
                    f"{self._what} {self.path} is in use by process {owner}: wait until it ends, or stop it"
                ) from error
            except OSError:
                os.close(self._file)
                raise
            os.ftruncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # The file stays: a process that waits to open it must never lock a file that has no name any more.
        os.ftruncate(self._file, 0)
        # Explicitly, because a forked worker that outlives us shares the lock.
        fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)


def is_held(path: Path) -> bool:
    """Whether a process writes to a run; the run is not touched."""
    try:
        file = os.open(path / ".lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, so that two who look do not see each other.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _lock(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Somebody may only have been looking.
        time.sleep(_PROBE_SECONDS)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
