"""A run that was stopped and resumed is, byte for byte, the run that nobody stopped."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import picolm
import picolm.training.state
from picolm.errors import PicoLMError
from picolm.runs.directory import RunDirectory
from picolm.runs.lock import RunLock
from picolm.runs.verification import verify_run
from picolm.seams import Observer
from picolm.training.interruption import Interruption
from picolm.training.trainer import Trainer

Overrides = dict[str, object]

MASKED: Overrides = {"objective": {"kind": "masked", "rate": 0.3}, "model.attention": "bidirectional"}
SAVING: Overrides = {"checkpoints.state.every": 3, "checkpoints.model.every": 4, "checkpoints.model.at": [0, 2]}


class Dies(Exception):
    """What ends a process in these tests."""


def dying_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run die just before an update."""
    original = Trainer.update

    def mortal(trainer: Trainer, number: int, views: Any) -> None:
        if number == step:
            raise Dies
        original(trainer, number, views)

    monkeypatch.setattr(Trainer, "update", mortal)


def run(overrides: Overrides, directory: Path, name: str, **options: Any) -> RunDirectory:
    return picolm.train(picolm.load_config(None, overrides), name=name, runs_dir=directory, **options)


def stopped(overrides: Overrides, directory: Path, name: str, step: int) -> Path:
    with pytest.MonkeyPatch.context() as monkeypatch:
        dying_at(step, monkeypatch)
        with pytest.raises(Dies):
            run(overrides, directory, name)
    return directory / name


def contents(path: Path) -> dict[str, bytes]:
    """What two runs of one identity have in common: the log, and every file of every checkpoint."""
    files = [path / "log.jsonl", *(path / "checkpoints").rglob("*")]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files if file.is_file()}


@pytest.mark.parametrize(
    "changes",
    [
        {"training.ema.start": 4, "model.dropout": 0.2},
        {**MASKED, "training.micro_batch_size": 3},
        {"optimizer": {"kind": "muon", "learning_rate": 0.02}, "training.precision": "bf16"},
        {"data.mixture": {"up": 3, "down": 1}, "schedule": {"kind": "restarts", "period": 4, "warmup_steps": 2}},
    ],
    ids=["average and dropout", "masked", "muon in bf16", "mixture and restarts"],
)
@pytest.mark.parametrize("step", [1, 8])
def test_a_resumed_run_is_the_run_that_nobody_stopped(
    small_run: Overrides, tmp_path: Path, changes: Overrides, step: int
) -> None:
    overrides = {**small_run, **SAVING, **changes}
    whole = run(overrides, tmp_path, "whole")
    path = stopped(overrides, tmp_path, "stopped", step)
    assert not verify_run(RunDirectory(path)).damage
    resumed = picolm.resume(path)
    assert contents(resumed.path) == contents(whole.path)
    assert verify_run(resumed).damage == [] == verify_run(resumed).notes
    assert [line["from_checkpoint"] for line in resumed.attempts] == [None, 0 if step == 1 else 6]


def test_a_run_may_be_stopped_at_any_step_and_more_than_once(small_run: Overrides, tmp_path: Path) -> None:
    overrides = {**small_run, "checkpoints.state.every": 2, "training.ema.start": 1, "validation.every": 0}
    whole = contents(run(overrides, tmp_path, "whole").path)
    path = stopped(overrides, tmp_path, "stopped", 1)
    for step in range(2, 12):
        with pytest.MonkeyPatch.context() as monkeypatch:
            dying_at(step, monkeypatch)
            with pytest.raises(Dies):
                picolm.resume(path)
    assert contents(picolm.resume(path).path) == whole


class Interrupts(Observer):
    """Sends this process a signal when a step is timed."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def timed(self, record: Any) -> None:
        if record["step"] == 5:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_where_no_schedule_asks_for_it(
    small_run: Overrides, tmp_path: Path, number: signal.Signals
) -> None:
    whole = run(small_run, tmp_path, "whole")
    stopped = run(small_run, tmp_path, "stopped", observers=[Interrupts(number)], interruption=Interruption())
    last = stopped.checkpoints[-1]
    assert 5 <= last.step < 12 and last.has_state
    resumed = picolm.resume(stopped.path)
    assert resumed.attempts[-1]["from_checkpoint"] == last.step
    # Two states are kept: the one that the signal asked for is not superseded yet.
    shutil.rmtree(last.path)
    assert contents(resumed.path) == contents(whole.path)


def test_a_signal_saves_the_state_where_only_the_model_had_been_saved(small_run: Overrides, tmp_path: Path) -> None:
    every = {**small_run, "checkpoints.model.every": 1, "training.flush_every": 1}
    whole = run(every, tmp_path, "whole")
    stopped = run(every, tmp_path, "stopped", observers=[Interrupts(signal.SIGTERM)], interruption=Interruption())
    last = stopped.checkpoints[-1]
    assert last.step == 5 and last.has_state
    assert (verify_run(stopped).damage, verify_run(stopped).notes) == ([], [])
    resumed = picolm.resume(stopped.path)
    assert resumed.attempts[-1]["from_checkpoint"] == 5
    ours, theirs = contents(resumed.path), contents(whole.path)
    # Two states are kept: that of the signal is not superseded yet.
    extra = {name for name in ours if "step-00000005/" in name}
    assert {name: ours[name] for name in ours.keys() - extra} == {n: theirs[n] for n in theirs.keys() - extra}


def test_what_is_kept_and_what_is_superseded(small_run: Overrides, tmp_path: Path) -> None:
    kept = run({**small_run, **SAVING}, tmp_path, "two").checkpoints
    assert [(c.step, c.has_state) for c in kept] == [
        (0, False), (2, False), (4, False), (8, False), (9, True), (12, True)
    ]  # fmt: skip
    both = run({**small_run, **SAVING, "checkpoints.state.every": 4}, tmp_path, "both").checkpoints
    assert [c.superseded for c in both] == [[], [], ["state"], [], []]
    everything = run({**small_run, **SAVING, "checkpoints.keep_states": None}, tmp_path, "all").checkpoints
    assert [c.step for c in everything if c.has_state] == [3, 6, 9, 12]
    for checkpoint in (*kept, *both, *everything):
        assert checkpoint.damaged() == []


def test_resuming_a_run_that_came_to_its_end_changes_nothing(small_run: Overrides, tmp_path: Path) -> None:
    done = run(small_run, tmp_path, "run")
    before = {file: file.read_bytes() for file in done.path.rglob("*") if file.is_file()}
    assert picolm.resume(done.path).path == done.path
    assert {file: file.read_bytes() for file in done.path.rglob("*") if file.is_file()} == before


def test_a_run_that_another_process_writes_to_is_refused(small_run: Overrides, tmp_path: Path) -> None:
    path = stopped(small_run, tmp_path, "run", 5)
    with RunLock(path), pytest.raises(PicoLMError, match="is in use by process"):
        picolm.resume(path)


def test_a_damaged_checkpoint_is_named_and_an_older_one_is_taken(small_run: Overrides, tmp_path: Path) -> None:
    overrides = {**small_run, **SAVING}
    whole = run(overrides, tmp_path, "whole")
    path = stopped(overrides, tmp_path, "stopped", 8)
    victim = path / "checkpoints" / "step-00000006" / "state" / "optimizer.safetensors"
    victim.write_bytes(victim.read_bytes()[:-9])
    said: list[str] = []
    resumed = picolm.resume(path, warn=said.append)
    assert resumed.attempts[-1]["from_checkpoint"] == 3
    assert any("optimizer.safetensors has" in sentence for sentence in said)
    assert resumed.attempts[-1]["warnings"] == said
    assert (path / "checkpoints" / "step-00000006.damaged").is_dir()
    shutil.rmtree(path / "checkpoints" / "step-00000006.damaged")
    assert contents(path) == contents(whole.path)


def test_a_run_without_a_whole_state_does_not_begin_anew_in_silence(small_run: Overrides, tmp_path: Path) -> None:
    path = stopped({**small_run, **SAVING}, tmp_path, "run", 8)
    for file in (path / "checkpoints").rglob("state.json"):
        file.unlink()
    with pytest.raises(PicoLMError, match=r"no whole checkpoint.*state\.json is missing"):
        picolm.resume(path)
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(PicoLMError, match=r"no whole checkpoint.*step-00000006 is missing"):
        picolm.resume(path)


def test_other_conditions_are_said(small_run: Overrides, tmp_path: Path) -> None:
    path = stopped({**small_run, **SAVING}, tmp_path, "run", 8)
    (line,) = (path / "attempts.jsonl").read_text().splitlines()
    (path / "attempts.jsonl").write_text(line.replace('"threads":', '"threads":7,"were":') + "\n")
    said: list[str] = []
    picolm.resume(path, warn=said.append)
    # That the record of attempts was changed is said as well.
    assert len(said) == 2 and "attempts.jsonl was changed" in said[0]
    assert said[1].startswith(f"threads was 7 and is {torch.get_num_threads()} now")


def test_other_data_are_refused(small_run: Overrides, tmp_path: Path, corpus: Path) -> None:
    changing = tmp_path / "changing.jsonl"
    shutil.copy(corpus, changing)
    overrides = {**small_run, "data.sources": [str(changing)], "data.cache": str(tmp_path / "cache")}
    path = stopped(overrides, tmp_path, "run", 5)
    shutil.rmtree(tmp_path / "cache")
    changing.write_text(changing.read_text().replace("seven", "seventeen"))
    with pytest.raises(PicoLMError, match="restore the data of the run"):
        picolm.resume(path)


def test_a_full_disk_is_one_sentence_and_loses_nothing(
    small_run: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {**small_run, **SAVING}
    whole = run(overrides, tmp_path, "whole")
    with monkeypatch.context() as patch:
        original, calls = picolm.training.state.save_tensors, []

        def full(tensors: Any, path: Path) -> None:
            calls.append(path)
            if len(calls) > 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            original(tensors, path)

        patch.setattr(picolm.training.state, "save_tensors", full)
        with pytest.raises(PicoLMError, match="disk is full"):
            run(overrides, tmp_path, "full")
    path = tmp_path / "full"
    found = verify_run(RunDirectory(path))
    assert found.damage == [] and [c.step for c in RunDirectory(path).checkpoints if c.has_state] == [3, 6]
    assert contents(picolm.resume(path).path) == contents(whole.path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("changes", [{}, {"training.precision": "bf16"}, {"model.dropout": 0.1}])
def test_compiled_runs_resume_bit_for_bit_in_a_new_process(
    small_run: Overrides, tmp_path: Path, changes: Overrides
) -> None:
    overrides = {**small_run, **SAVING, **changes, "training.compile": True}
    whole = run(overrides, tmp_path, "whole")
    path = stopped(overrides, tmp_path, "stopped", 8)
    code = f"import picolm; picolm.resume({str(path)!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert contents(path) == contents(whole.path)
