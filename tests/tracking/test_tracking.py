import json
import math
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import picolm
from picolm.errors import PicoLMError
from picolm.runs.directory import RunDirectory
from picolm.tracking.tracker import Sink, Tracker, numbers, trackers

Overrides = dict[str, Any]
Points = dict[tuple[str, int], float]


def train(overrides: Overrides, directory: Path, name: str) -> RunDirectory:
    return picolm.train(picolm.load_config(None, overrides), name=name, runs_dir=directory)


def recorded(run: RunDirectory) -> Points:
    """Every number of the record by name and step, taken from its lines without the code under test."""
    points: Points = {}
    for line in [*run.log, *({**line, "event": "timings"} for line in run.timings)]:
        stack = [(str(line["event"]), {k: v for k, v in line.items() if k not in ("event", "step")})]
        while stack:
            path, part = stack.pop()
            for key, value in part.items():
                if isinstance(value, dict):
                    stack.append((f"{path}/{key}", value))
                elif not isinstance(value, str):
                    points[f"{path}/{key}", line["step"]] = value
    return points


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[RunDirectory]:
    """Two runs of one process with both trackers, and one without."""
    directory = tmp_path_factory.mktemp("tracked")
    base = {
        "data.sources": [str(corpus)],
        "data.cache": str(directory / "cache"),
        "data.sequence_length": 16,
        "tokenizer.vocab_size": 300,
        "model": {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "d_ffn": 16},
        "training": {"steps": 6, "batch_size": 4, "device": "cpu", "flush_every": 4, "ema": {"decay": 0.9}},
        "schedule.warmup_steps": 2,
        "validation.every": 4,
    }
    both = {**base, "tracking": ["tensorboard", "trackio"]}
    return [
        train(both, directory, "one"),
        train({**both, "seeds.init": 1}, directory, "two"),
        train(base, directory, "bare"),
    ]


def test_a_tracker_changes_nothing_of_a_run(runs: list[RunDirectory]) -> None:
    tracked, _, bare = runs
    assert tracked.log_path.read_bytes() == bare.log_path.read_bytes()
    assert not (bare.path / "tensorboard").exists() and not (bare.path / "trackio").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_event_file_of_tensorboard_holds_the_record(runs: list[RunDirectory]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for run in runs[:2]:
        events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0})
        events.Reload()
        read = {(tag, e.step): e.value for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}
        expected = recorded(run)
        assert len([key for key in expected if key[0] == "train/loss"]) == 6
        assert ("validation/ema/domains/up/bits_per_byte", 4) in expected
        # Scalars there are float32; the losses of the log are too, so they are equal to the bit.
        assert read == {key: float(np.float32(value)) for key, value in expected.items()}
        assert read["train/loss", 3] == expected["train/loss", 3]


def test_the_database_of_trackio_holds_the_record(runs: list[RunDirectory]) -> None:
    for run in runs[:2]:
        connection = sqlite3.connect(run.path / "trackio" / "picolm.db")
        rows = connection.execute("select run_name, step, metrics from metrics").fetchall()
        connection.close()
        assert {name for name, *_ in rows} == {run.name}
        read = {(key, step): value for _, step, metrics in rows for key, value in json.loads(metrics).items()}
        assert read == recorded(run)


def test_trackers_print_nothing_among_results(small_run: Overrides, tmp_path: Path, capfd: Any) -> None:
    train({**small_run, "training.steps": 3, "tracking": "trackio"}, tmp_path, "run")
    assert capfd.readouterr().out == ""


FAKE_WANDB = """
import json, pathlib
class Run:
    def __init__(self, **options):
        self.file = pathlib.Path(options["dir"], "fake.jsonl").open("w")
        self.say({"init": options})
    def say(self, value):
        self.file.write(json.dumps(value) + "\\n")
    def log(self, figures, step):
        if figures.get("train/loss") is not None and step == FAIL_AT:
            raise OSError("no route to host")
        self.say({"step": step, "figures": figures})
    def finish(self):
        self.say("finished"); self.file.close()
FAIL_AT = -1
def init(**options):
    return Run(**options)
"""


@pytest.fixture
def fake_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module with the three calls of W&B that are made; the real one is not among what tests install."""
    file = tmp_path / "fakes" / "wandb.py"
    file.parent.mkdir()
    file.write_text(FAKE_WANDB)
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    return file


def test_wandb_is_fed_offline_with_rising_steps(fake_wandb: Path, small_run: Overrides, tmp_path: Path) -> None:
    run = train({**small_run, "tracking": ["wandb"]}, tmp_path, "run")
    first, *lines, last = [json.loads(line) for line in (run.path / "fake.jsonl").read_text().splitlines()]
    options = first["init"]
    assert (options["mode"], options["dir"], options["name"]) == ("offline", str(run.path), "run")
    assert options["config"] == run.identity["config"]
    assert last == "finished"
    steps = [line["step"] for line in lines]
    assert steps == sorted(steps)
    assert {(k, line["step"]): v for line in lines for k, v in line["figures"].items()} == recorded(run)
    sys.modules.pop("wandb")


def test_a_tracker_that_fails_in_mid_run_is_named_once_and_left_out(
    fake_wandb: Path, small_run: Overrides, tmp_path: Path, capfd: Any
) -> None:
    fake_wandb.write_text(FAKE_WANDB.replace("FAIL_AT = -1", "FAIL_AT = 7"))
    run = train({**small_run, "tracking": ["wandb", "tensorboard"]}, tmp_path, "run")
    assert run.checkpoints[-1].step == 12
    said = [line for line in capfd.readouterr().err.splitlines() if "tracking" in line]
    assert said == [
        "picolm: tracking: wandb failed and is left out from here on (OSError('no route to host')); the run goes on"
    ]
    assert '"step": 6' in (run.path / "fake.jsonl").read_text()
    assert list((run.path / "tensorboard").iterdir())
    sys.modules.pop("wandb")


def test_a_trackio_that_dies_does_not_end_the_run(
    small_run: Overrides, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("picolm.tracking.trackio._WRITER", "import sys; sys.exit(3)")
    run = train({**small_run, "tracking": ["trackio"]}, tmp_path, "run")
    assert run.checkpoints[-1].step == 12
    assert capfd.readouterr().err.count("tracking: trackio failed") == 1


def test_a_missing_package_is_named_before_anything_is_done(
    small_run: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("picolm.tracking.tracker.find_spec", lambda name: None)
    with pytest.raises(PicoLMError, match=r"wandb is not installed; install it with: pip install 'picolm\[wandb\]'"):
        train({**small_run, "data.cache": str(tmp_path / "cache"), "tracking": ["wandb"]}, tmp_path, "run")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(PicoLMError, match="must be one of 'tensorboard', 'trackio', 'wandb', not 'mlflow'"):
        picolm.load_config(None, ["tracking=mlflow"])


class Memory(Sink):
    def __init__(self, fails_at: str = "") -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.fails_at, self.closed = fails_at, False

    def write(self, figures: Mapping[str, float], step: int) -> None:
        self.lines.append((step, dict(figures)))

    def close(self) -> None:
        self.closed = True
        if self.fails_at == "close":
            raise OSError("disk full")


def test_only_numbers_are_passed_on() -> None:
    record = {"event": "x", "text": "a", "step": 3, "flag": True, "none": None, "n": 2, "deep": {"er": {"v": math.inf}}}
    assert dict(numbers(record)) == {"step": 3, "n": 2, "deep/er/v": math.inf}
    memory = Memory()
    tracker = Tracker("memory", Path(), lambda directory, facts: memory, pytest.fail)
    tracker.logged({"event": "train", "step": 1, "loss": 1.0})  # before it is open
    tracker.started({})
    tracker.logged(record)
    tracker.logged({"event": "sample", "step": 3, "prompt": "p", "text": "t"})
    tracker.ended(3)
    tracker.logged(record)  # after it is closed
    assert memory.lines == [(3, {"x/n": 2, "x/deep/er/v": math.inf})] and memory.closed


def test_failures_to_open_and_to_close_are_told() -> None:
    said: list[str] = []

    def refuse(directory: Path, facts: Mapping[str, Any]) -> Sink:
        raise ImportError("broken install")

    for open_sink in (refuse, lambda directory, facts: Memory(fails_at="close")):
        tracker = Tracker("memory", Path(), open_sink, said.append)
        tracker.started({})
        tracker.logged({"event": "train", "step": 1, "loss": 1.0})
        tracker.ended(1)
    assert [("broken install" in s, "disk full" in s) for s in said] == [(True, False), (False, True)]


def test_nothing_of_a_tracker_is_loaded_before_a_run_wants_it() -> None:
    code = (
        "import sys, picolm.assembly.training; from picolm.tracking.tracker import trackers; "
        "print([n for n in ('tensorboard', 'torch.utils.tensorboard', 'trackio', 'wandb') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_each_name_of_the_schema_has_a_tracker(tmp_path: Path) -> None:
    names = ["tensorboard", "trackio", "wandb"]
    assert [tracker.name for tracker in trackers(names, tmp_path)] == names
