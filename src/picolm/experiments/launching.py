"""Starting the processes that train: what every launcher takes and gives. Launchers stand beside it, one a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Job:
    """A command to be run to its end.

    Attributes:
        name: of the run.
        command: a program and its arguments.
        folder: where it runs.
        log: the file that all it prints is added to.
        environment: variables over those of this process.
    """

    name: str
    command: Sequence[str]
    folder: Path
    log: Path
    environment: Mapping[str, str]


class Handle(Protocol):
    """A job that was started."""

    def code(self) -> int | None:
        """How it ended: 0, or what went wrong; None while it runs or waits."""

    def stop(self) -> None:
        """Ask it to save and end; `code` tells when it has."""

    def facts(self) -> Mapping[str, object]:
        """What `attach` finds it by, as JSON values."""


class Launcher(Protocol):
    """Starts jobs.

    Attributes:
        outlives: whether jobs go on when this process ends, and `attach` finds them again.
    """

    outlives: bool

    def start(self, job: Job) -> Handle:
        """Start a job, or put it in a queue.

        Raises:
            PicoLMError: it cannot be started.
        """

    def attach(self, facts: Mapping[str, object]) -> Handle | None:
        """Find a job again that an earlier process started; None where it cannot be found."""


def thread_environment(at_once: int) -> dict[str, str]:
    """Variables that give each of several processes on this machine its share of the cores."""
    if at_once == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, available_cores() // at_once))}


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
