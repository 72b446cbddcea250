"""Waiting for what a job does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from picolm.experiments.launching import Handle


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in a minute"
        time.sleep(0.02)


def ended(handle: Handle) -> int:
    until(lambda: handle.code() is not None)
    code = handle.code()
    assert code is not None
    return code


def holds(path: Path, text: str) -> Callable[[], bool]:
    return lambda: path.exists() and text in path.read_text()
