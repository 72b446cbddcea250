"""Files and directories that are there whole or not at all, also after a crash or a power cut."""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from picolm.errors import PicoLMError

_PARTIAL = ".partial-"
_own: set[str] = set()
"""What this very process is writing, or has written."""
_ADVICE = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "your quota is used up: free some space or choose another disk",
    errno.EROFS: "choose a place that can be written to",
    errno.EACCES: "choose a place that you may write to",
    errno.EPERM: "choose a place that you may write to",
    errno.ENOENT: "create the directory first",
}


class TakenError(PicoLMError):
    """The name that something was to appear under is taken."""


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically and durably, replacing what was there.

    Raises:
        PicoLMError: the disk is full, or the place cannot be written to.
    """
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write a JSON file (indented, keys sorted) atomically and durably, replacing what was there.

    Raises:
        PicoLMError: a number is NaN or infinite, the disk is full, or the place cannot be written to.
    """
    try:
        data = json_bytes(value)
    except ValueError as error:
        raise PicoLMError(f"cannot write {path}: it would hold a number that is not finite ({error})") from error
    write_bytes(path, data)


def json_bytes(value: object) -> bytes:
    """The bytes that `write_json` writes; ValueError where a number is NaN or infinite."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    # A lone surrogate (a file name that is not UTF-8) becomes the JSON escape that reads back as itself.
    return f"{text}\n".encode("utf-8", "backslashreplace")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically and durably, replacing what was there.

    Raises:
        PicoLMError: the disk is full, or the place cannot be written to.
    """
    temporary = _sibling(path)
    with explained(path):
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def committed_directory(path: Path) -> Iterator[Path]:
    """Fill a directory that appears under its name only when it is complete.

    Yields:
        A temporary sibling to write into. On success its files are flushed to disk and it is renamed to `path`;
        on any error it is removed.

    Raises:
        TakenError: `path` exists and is not an empty directory, now or when it is to appear.
        PicoLMError: the disk is full, or the place cannot be written to.
    """
    _refuse_existing(path)
    temporary = _sibling(path)
    with explained(path):
        make_parents(path)
        temporary.mkdir()
    try:
        yield temporary
        with explained(path):
            _sync_tree(temporary)
            _refuse_existing(path)
            try:
                temporary.rename(path)
            except OSError:
                # Between the look and the rename another process may have filled the place.
                _refuse_existing(path)
                raise
            _sync(path.parent)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if _is_full(error):
            raise PicoLMError(f"cannot write {path}: the disk is full; {_ADVICE[errno.ENOSPC]}") from error
        raise


def discard_partials(directory: Path) -> list[Path]:
    """Remove what processes of this machine that are dead by now left half-written in a directory.

    Returns:
        The paths that were removed.
    """
    partials = [path for path in sorted(directory.glob(f".*{_PARTIAL}*")) if _is_orphan(path)]
    for path in partials:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return partials


def put_aside(path: Path, reason: str) -> Path:
    """Rename a file or directory, so that its name is free and nothing is lost; the new path ends with the reason."""
    names = {other.name for other in path.parent.iterdir()}
    return path.rename(path.with_name(first_free(names, f"{path.name}.{reason}")))


def first_free(taken: Container[str], stem: str) -> str:
    """Return the first of `stem`, `stem-2`, `stem-3`, ... that is not taken."""
    if stem not in taken:
        return stem
    number = 2
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def make_parents(path: Path) -> None:
    """Make the directories above a path that are missing, durably."""
    with explained(path):
        missing = [parent for parent in path.parents if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(exist_ok=True)
            _sync(parent.parent)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's error while `path` is written into one sentence for the user."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "check the path and its disk")
        raise PicoLMError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def _sibling(path: Path) -> Path:
    # With the machine's name: on a shared file system, another machine's process ids mean nothing here.
    owner = f"{platform.node()}-{os.getpid()}"
    sibling = path.parent / f".{path.name}{_PARTIAL}{owner}-{secrets.token_hex(4)}"
    _own.add(sibling.name)
    return sibling


def _is_orphan(path: Path) -> bool:
    host, _, pid = path.name.rpartition(_PARTIAL)[2].rpartition("-")[0].rpartition("-")
    if host != platform.node() or not pid.isdecimal():
        return False
    if int(pid) == os.getpid():
        # In a container a restarted process often gets the number of the one that was killed.
        return path.name not in _own
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _refuse_existing(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise TakenError(f"{path} exists already; remove it or choose another name")


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # Libraries written in Rust (safetensors, tokenizers) raise their own classes; only the text tells.
    return not isinstance(error, PicoLMError) and os.strerror(errno.ENOSPC) in str(error)


def _sync_tree(directory: Path) -> None:
    for path in directory.rglob("*"):
        if not path.is_symlink():
            _sync(path)
    _sync(directory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
