"""Processes of this machine: how they end, what they print, that they can be stopped with all that they started."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from picolm.errors import PicoLMError
from picolm.experiments.launchers.local import LocalLauncher
from picolm.experiments.launching import Job

from .watching import ended, holds, until


def job_of(folder: Path, *command: str, environment: dict[str, str] | None = None) -> Job:
    return Job("plain.seed0", command, folder, folder / "logs" / "plain.seed0.txt", environment or {})


def python(folder: Path, code: str) -> Job:
    return job_of(folder, sys.executable, "-c", code)


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_the_exit_code_is_that_of_the_command(tmp_path: Path, code: int) -> None:
    assert ended(LocalLauncher().start(python(tmp_path, f"raise SystemExit({code})"))) == code


def test_both_outputs_are_added_to_the_log_in_the_order_of_printing(tmp_path: Path) -> None:
    job = job_of(
        tmp_path, "sh", "-c", "echo one; echo two >&2; echo three; pwd; echo $COLOUR", environment={"COLOUR": "red"}
    )
    for _ in range(2):
        assert ended(LocalLauncher().start(job)) == 0
    assert job.log.read_text().splitlines() == ["one", "two", "three", str(tmp_path), "red"] * 2


def test_nothing_can_be_typed_to_a_job(tmp_path: Path) -> None:
    job = job_of(tmp_path, "cat")
    assert ended(LocalLauncher().start(job)) == 0
    assert job.log.read_text() == ""


def test_a_job_is_in_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(tmp_path: Path) -> None:
    job = python(tmp_path, "import os; print(os.getsid(0), os.getpgrp(), os.getpid())")
    handle = LocalLauncher().start(job)
    assert ended(handle) == 0
    session, group, process = job.log.read_text().split()
    assert session == group == process == str(handle.facts()["pid"])
    assert int(session) != os.getsid(0)


def test_stop_lets_a_job_save_and_end_as_it_likes(tmp_path: Path) -> None:
    job = job_of(tmp_path, "bash", "-c", "trap 'echo saved; exit 143' TERM; echo ready; while :; do sleep 0.02; done")
    handle = LocalLauncher().start(job)
    until(holds(job.log, "ready"))
    assert handle.code() is None
    handle.stop()
    assert ended(handle) == 143
    assert job.log.read_text().splitlines()[-1] == "saved"
    handle.stop()  # of one that has ended: nothing happens


def test_a_job_that_a_signal_killed_has_its_number_as_code(tmp_path: Path) -> None:
    job = python(tmp_path, "import time; print('ready', flush=True); time.sleep(600)")
    handle = LocalLauncher().start(job)
    until(holds(job.log, "ready"))
    handle.stop()
    assert ended(handle) == -signal.SIGTERM


def test_stop_reaches_what_a_job_started(tmp_path: Path) -> None:
    job = job_of(tmp_path, "bash", "-c", "sleep 600 & echo child $! ready; wait")
    handle = LocalLauncher().start(job)
    until(holds(job.log, "ready"))
    child = int(job.log.read_text().split()[1])
    handle.stop()
    ended(handle)
    until(lambda: not is_alive(child))


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    # A zombie has ended; whether whoever adopted it has looked is not ours to say.
    return state != "Z"


def test_no_zombie_stays_once_the_code_was_asked_for(tmp_path: Path) -> None:
    handle = LocalLauncher().start(job_of(tmp_path, "true"))
    ended(handle)
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(handle.facts()["pid"])), 0)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["no-such-program"], "plain.seed0 cannot be started: there is no program 'no-such-program'"),
        (["/etc/passwd"], "plain.seed0 cannot be started: '/etc/passwd': Permission denied"),
        (["echo", "\0"], "plain.seed0 cannot be started: 'echo': embedded null byte"),
    ],
)
def test_what_cannot_be_started_is_said(tmp_path: Path, command: Sequence[str], said: str) -> None:
    with pytest.raises(PicoLMError, match=said):
        LocalLauncher().start(job_of(tmp_path, *command))


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    job = Job("plain", ["true"], tmp_path / "nowhere", tmp_path / "log.txt", {})
    with pytest.raises(PicoLMError, match=r"plain cannot be started: there is no folder .*nowhere"):
        LocalLauncher().start(job)


def test_jobs_of_an_earlier_process_are_found_by_their_locks_not_here(tmp_path: Path) -> None:
    handle = LocalLauncher().start(job_of(tmp_path, "true"))
    ended(handle)
    assert not LocalLauncher.outlives
    assert LocalLauncher().attach(handle.facts()) is None  # type: ignore[func-returns-value]
