"""How far an evaluation is, told in items."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how far an evaluation is.

    Args:
        phase: the checkpoint and the task, as in `step 300, pairs:blimp`.
        done: items so far.
        total: how many there are.
    """

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note."""


class Meter:
    """Counts what has been done of a task at a checkpoint, and tells it on.

    Args:
        progress: who is told; None: nobody.
        what: the checkpoint and the task.
    """

    def __init__(self, progress: Progress | None = None, what: str = "") -> None:
        self._progress, self._what = progress, what
        self._done = self._total = 0

    def expect(self, count: int) -> None:
        """Take note that so many more will come."""
        self._total += count

    def advance(self, count: int) -> None:
        """Take note that so many more are done."""
        self._done += count
        if self._progress is not None and count:
            self._progress(self._what, self._done, self._total)
