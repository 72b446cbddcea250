"""Trackio: one SQLite file in the run's `trackio/`, written by a process of its own.

Trackio decides when it is imported where its files go, and prints on standard output, where the results of a command
stand. A process of its own has one run, one place and an output that nobody reads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from picolm.tracking.tracker import Sink

PROJECT = "picolm"
_CLOSE_SECONDS = 60.0
_WRITER = """
import json, sys, trackio
run = trackio.init(**json.loads(sys.stdin.readline()), embed=False, auto_log_cpu=False, auto_log_gpu=False)
for line in sys.stdin:
    figures, step = json.loads(line)
    trackio.log(figures, step=step)
trackio.finish()
"""


class Trackio(Sink):
    """Writes to a local Trackio; `TRACKIO_DIR=RUN/trackio trackio show` opens the dashboard."""

    def __init__(self, directory: Path, facts: Mapping[str, Any]) -> None:
        """Start the process that writes.

        Args:
            directory: the run's.
            facts: `name` and `config` are taken.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WRITER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**os.environ, "TRACKIO_DIR": str((directory / "trackio").resolve())},
            # Ctrl-C is for the training, which then closes this process in order.
            start_new_session=True,
        )
        self._send({"project": PROJECT, "name": facts["name"], "config": facts["config"]})

    def write(self, figures: Mapping[str, float], step: int) -> None:
        """Send the figures of one line."""
        self._send([figures, step])

    def close(self) -> None:
        """Wait until all is in the file."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            code = self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code:
            raise RuntimeError(f"its process ended with code {code}")

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None
        # NaN and Infinity as Python's json writes and reads them.
        try:
            self._process.stdin.write(f"{json.dumps(message)}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.close()
            raise
