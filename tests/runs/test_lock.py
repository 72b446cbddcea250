import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from picolm.errors import PicoLMError
from picolm.runs.lock import RunLock

HOLDER = """
import sys
from pathlib import Path
from picolm.runs.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_second_process_is_told_who_holds_the_run(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(PicoLMError, match=f"is in use by process {holder.pid}: wait"), RunLock(tmp_path):
        pytest.fail("two processes hold the lock")


def test_lock_of_a_killed_process_is_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with RunLock(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


def test_lock_is_freed_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunLock(tmp_path):
        raise KeyError
    with RunLock(tmp_path), pytest.raises(PicoLMError, match=f"process {os.getpid()}"), RunLock(tmp_path):
        pytest.fail("the lock was taken twice")


def test_failed_attempt_leaves_no_file_open(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for _ in range(3):
            with pytest.raises(PicoLMError), RunLock(tmp_path):
                pass
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
