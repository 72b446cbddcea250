"""A directory appears whole or not at all."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from picolm.errors import PicoLMError


def commit(out: Path, write: Callable[[Path], None]) -> bool:
    """Let `write` fill a hidden directory beside `out`, which takes that name when it is complete and on the disk.

    What killed processes of this machine left behind for the same `out` is removed.

    Args:
        out: does not exist, or is an empty directory.
        write: is given an empty directory.

    Returns:
        Whether it was made; False where another process made `out` meanwhile, which is then left as it is.

    Raises:
        PicoLMError: `out` cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(out)
        partial = out.parent / f"{_prefix(out)}{os.getpid()}"
        partial.mkdir()
        try:
            write(partial)
            for folder in (partial, *(path for path in partial.iterdir() if path.is_dir())):
                sync(folder)
            return _rename(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise PicoLMError(f"cannot write {error.filename or out}: {error.strerror or error}") from error


def sync(path: Path) -> None:
    """Make a file or directory survive a power failure."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open directories
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(partial: Path, out: Path) -> bool:
    try:
        if out.is_dir():
            out.rmdir()
        partial.rename(out)
    except OSError:
        if out.is_dir() and any(out.iterdir()):
            return False
        raise
    sync(out.parent)
    return True


def _prefix(out: Path) -> str:
    # With the machine's name: on a shared file system, another machine's process ids mean nothing here.
    return f".{out.name}.partial-{platform.node()}-"


def _remove_stale(out: Path) -> None:
    prefix = _prefix(out)
    for entry in out.parent.iterdir():
        pid = entry.name.removeprefix(prefix)
        if entry.name.startswith(prefix) and pid.isdecimal() and not _is_other_process(int(pid)):
            shutil.rmtree(entry, ignore_errors=True)


def _is_other_process(pid: int) -> bool:
    if pid == os.getpid():  # ours was made by an earlier process that had the same id
        return False
    if os.name == "nt":  # there, signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
