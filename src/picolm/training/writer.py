"""A thread that puts host copies on the disk while training goes on."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

_NICENESS = 10


class Writer:
    """Runs tasks in the order in which they are given, one at a time, on a thread of its own; a context manager.

    At most one task waits or runs when another is given: the memory for host copies stays bounded. An error of a task
    is raised by the next call, or on leaving.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="picolm-writer", initializer=_step_back)
        self._running: Future[None] | None = None

    def submit(self, task: Callable[[], None]) -> None:
        """Wait for the task before, then start this one and return."""
        self.wait()
        self._running = self._thread.submit(task)

    def wait(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            PicoLMError: it could not be written.
        """
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._thread.shutdown(wait=True)


def _step_back() -> None:
    """Let the threads that compute go first: hashing a checkpoint takes seconds of a core, and nobody waits for it."""
    # On Linux a thread has a priority of its own; elsewhere the call would slow the whole process down.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def host_copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the host that training cannot change; contiguous, in fresh memory."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
