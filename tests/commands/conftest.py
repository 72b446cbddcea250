"""What tests of several commands share: a run to look at, and a command called as from a shell."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import picolm

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call `picolm` with arguments: its exit code, and what it wrote on standard output and error."""

    def called(*arguments: str) -> tuple[int, str, str]:
        from picolm.cli import main

        monkeypatch.setattr(sys, "argv", ["picolm", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, printed.out, printed.err

    return called


@pytest.fixture(scope="module")
def run(small_training: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three checkpoints; tests write to places of their own."""
    values = {
        **small_training,
        "model.n_kv_heads": 4,
        "schedule.warmup_steps": 1,
        "training.steps": 3,
        "training.batch_size": 4,
        "checkpoints.model.at": [0, 2, 3],
    }
    return picolm.train(picolm.load_config(None, values), name="run", runs_dir=tmp_path_factory.mktemp("runs")).path
