"""Taggers on the terminal: how far their training is, and how well they do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from picolm.terminal.progress import QUIET_SECONDS
from picolm.terminal.tables import print_table


class TrainingProgress:
    """Shows how far each phase is, in per cent: one live line on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._interval = 0.1 if console.is_terminal else QUIET_SECONDS
        self._phase = ""
        self._last_line = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note that `done` of `total` are done."""
        now, finished = time.monotonic(), done >= total
        if phase == self._phase and now - self._last_line < self._interval and not finished:
            return
        is_new, self._phase, self._last_line = phase != self._phase, phase, now
        line = f"{phase}: {100 * done / max(total, 1):.0f}%"
        if self._console.is_terminal:
            self._console.print(line, end="\n" if finished else "\r", highlight=False)
        elif is_new or not finished:
            self._console.print(line, highlight=False)


def print_tagger(described: Mapping[str, Any]) -> None:
    """Print what a tagger is and how well it does."""
    rows = [
        ("method", str(described["method"])),
        ("tags", " ".join(described["names"])),
        ("trained on", f"{described['words']:,} words, {described['sentences']:,} sentences"),
    ]
    held = described.get("held_out")
    if held is not None:
        rows.append(("right", f"{100 * held['accuracy']:.1f}% of {held['words']:,} held-out words"))
        if held["unknown"] is not None:
            share = f"{100 * held['share_unknown']:.1f}% of them"
            rows.append(("right, unknown words", f"{100 * held['unknown']:.1f}% ({share})"))
    if held is not None and "words_f1" in held:
        rows.append(("words found in raw text", f"F1 {100 * held['words_f1']:.1f}%"))
    print_table(("tagger", str(described["path"])), rows)
