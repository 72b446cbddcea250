"""How far an analysis is: one count of the sites that all threads are done with."""

from __future__ import annotations

import threading
from typing import Protocol


class Progress(Protocol):
    """Told how far an analysis is."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note that `done` of `total` sites are done, of all steps together."""


class Counter:
    """Counts sites of all threads together, and ends their work when it was interrupted."""

    def __init__(self, progress: Progress | None, phase: str, total: int) -> None:
        self._progress, self._phase, self._total = progress, phase, total
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._whole = self._told = 0
        self._partial: dict[int, int] = {}

    def site(self, count: int) -> None:
        """Take note of sites of the step that this thread is at."""
        self._tell(partial=count)

    def step(self, count: int) -> None:
        """Take note that this thread's step is done, all `count` sites of it; 0: that it begins."""
        self._tell(whole=count)

    def stop(self) -> None:
        """End the work of all threads at their next site."""
        self._stopped.set()

    def _tell(self, partial: int = 0, whole: int = 0) -> None:
        if self._stopped.is_set():
            raise StoppedError
        thread = threading.get_ident()
        with self._lock:
            # A step that was there already is told at once, one that has several probes no more than its sites.
            self._partial[thread] = self._partial.get(thread, 0) + partial if not whole else 0
            self._whole += whole
            done = min(self._whole + sum(self._partial.values()), self._total)
            if self._progress is not None and done > self._told:
                self._told = done
                self._progress(self._phase, done, self._total)


class StoppedError(Exception):
    """Another thread failed, or the user interrupted."""
