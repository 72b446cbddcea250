"""What runs in a job of a cluster: the job's script, to its end. Imported there, so it stays small."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""Slurm's ways to say that the end is near; either becomes SIGTERM, on which PicoLM saves."""


def carry_out(script: str, log: str, ended: str) -> None:
    """Run a script, pass on the wish to end, and write down how it ended.

    Args:
        script: of bash.
        log: all that it prints is added here.
        ended: the file that its exit code is written to; one from before a requeue is removed first.

    Raises:
        SystemExit: with the exit code, so that the cluster knows it too.
    """
    Path(ended).unlink(missing_ok=True)
    process: subprocess.Popen[bytes] | None = None
    asked_early = False

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked_early
        if process is None:
            asked_early = True
        else:
            process.terminate()

    for number in SIGNALS:
        signal.signal(number, pass_on)
    with Path(log).open("ab") as output:
        process = subprocess.Popen(
            ["/bin/bash", script], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    if asked_early:
        process.terminate()
    code = process.wait()
    code = 128 - code if code < 0 else code
    partial = Path(f"{ended}.partial")
    partial.write_text(f"{code}\n")
    partial.replace(ended)
    sys.exit(code)
