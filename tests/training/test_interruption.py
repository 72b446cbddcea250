"""What signals do while a model trains: the first is noted, an echo of it changes nothing, a second one ends it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from picolm.training import interruption
from picolm.training.interruption import Interruption


def test_the_first_signal_is_noted_and_held_back() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with Interruption() as stop:
            signal.raise_signal(number)
        assert stop.signal == number
        assert stop.exit_code == 128 + number


def test_a_sigterm_that_comes_twice_at_once_is_one_wish() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption() as stop:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    assert stop.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_ctrl_c_wants_out_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_after_sigterm_wants_out_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)


def test_a_later_sigterm_wants_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    monkeypatch.setattr(interruption, "_ECHO_SECONDS", 0.0)
    try:
        with Interruption():
            signal.raise_signal(signal.SIGTERM)
            assert came == []
            signal.raise_signal(signal.SIGTERM)
            assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_process_that_is_told_to_end_twice_by_sigterm_after_a_while_is_killed_by_it() -> None:
    code = (
        "import signal\n"
        "from picolm.training import interruption\n"
        "interruption._ECHO_SECONDS = 0.0\n"
        "with interruption.Interruption():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('never')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")
