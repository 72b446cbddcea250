"""Messages on standard error: what is going on, and how far it is."""

from __future__ import annotations

import time

from rich.console import Console

from picolm.terminal.tables import printable, readable_size

QUIET_SECONDS = 10.0
"""Where there is no terminal, plain lines about one thing come at most this often."""


def messages() -> Console:
    """The console for everything that is not a result."""
    return Console(stderr=True)


class PreparationProgress:
    """Shows how far the preparation of data is: one live line on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._interval = 0.1 if console.is_terminal else QUIET_SECONDS
        self._phase = ""
        self._last_line = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note that `done` of `total` bytes of a phase are done."""
        now = time.monotonic()
        finished = done >= total
        if phase == self._phase and now - self._last_line < self._interval and not finished:
            return
        is_new, self._phase, self._last_line = phase != self._phase, phase, now
        line = f"{phase}: {100 * done / max(total, 1):.0f}% of {readable_size(total)}"
        if self._console.is_terminal:
            self._console.print(line, end="\n" if finished else "\r", highlight=False)
        elif is_new or not finished:
            self._console.print(line, highlight=False)


class Typewriter:
    """Prints a text on standard output while it grows."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._printed: str | None = None

    def __call__(self, text: str) -> None:
        """Print what is new in `text`, the whole that was added to the prompt so far."""
        # Half of a character reads as U+FFFD until its other bytes have come.
        self._print(text.rstrip("\ufffd"))

    def end(self, text: str) -> None:
        """Print the rest and end the line."""
        self._print(text)
        print()

    def _print(self, text: str) -> None:
        if self._printed is None:
            print(self._prompt, end="")
            self._printed = ""
        # A later token can change how an earlier one reads (a cleaned-up space): then it waits for `end`.
        if text.startswith(self._printed):
            print(printable(text[len(self._printed) :]), end="", flush=True)
            self._printed = text
