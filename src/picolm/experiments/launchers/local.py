"""Processes of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress

from picolm.errors import PicoLMError
from picolm.experiments.launching import Job
from picolm.runs.durable import explained, make_parents


class LocalHandle:
    """A process of this machine, with all that it starts."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Take a process that leads a group of its own."""
        self._process = process

    def code(self) -> int | None:
        """How it ended: its exit code, or less than 0 for a signal; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Send SIGTERM to the process and to those that it started."""
        # Asked first: the number of a process that has ended may be another's by now.
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def facts(self) -> Mapping[str, object]:
        """Its process id, for people: a process that outlives this one is found by the lock of its run."""
        return {"pid": self._process.pid}


class LocalLauncher:
    """Starts each job at once as a process of this machine."""

    outlives = False

    def start(self, job: Job) -> LocalHandle:
        """Start a job.

        It leads a session of its own, so that Ctrl-C at the terminal reaches only this process, which asks all of them.

        Raises:
            PicoLMError: there is no such program or folder, or the log cannot be written.
        """
        make_parents(job.log)
        if not job.folder.is_dir():
            raise PicoLMError(f"{job.name} cannot be started: there is no folder {job.folder}")
        environment = {**os.environ, **job.environment}
        with explained(job.log):
            log = job.log.open("ab")
        with log:
            try:
                process = subprocess.Popen(
                    list(job.command),
                    cwd=job.folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                raise PicoLMError(f"{job.name} cannot be started: {_why(job, error)}") from error
        return LocalHandle(process)

    def attach(self, facts: Mapping[str, object]) -> None:
        """Find nothing: the lock of a run tells whether a process from before still makes it."""


def _why(job: Job, error: OSError | ValueError) -> str:
    program = job.command[0]
    if isinstance(error, FileNotFoundError) and shutil.which(program) is None:
        return f"there is no program '{program}'"
    return f"'{program}': {getattr(error, 'strerror', None) or error}"
