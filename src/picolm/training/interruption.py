"""Ctrl-C and SIGTERM: finish the step, save, leave."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ECHO_SECONDS = 5.0
"""One wish to end may come as several SIGTERMs: from Slurm, which signals a whole job step, and from a parent in it."""


class Interruption:
    """While it is entered, the two signals only raise a flag that the loop looks at between steps.

    A second signal is not held back, but for a SIGTERM that is the echo of another. Outside the main thread, where
    Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._noted_at = 0.0
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    @property
    def exit_code(self) -> int:
        """What a process that was ended by the signal returns, by convention; 0 where there was none."""
        return 0 if self.signal is None else 128 + self.signal

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._noted_at = signal.Signals(number), time.monotonic()
        elif number != signal.SIGTERM or time.monotonic() - self._noted_at >= _ECHO_SECONDS:
            # Whoever sends a second one wants out at once.
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()
