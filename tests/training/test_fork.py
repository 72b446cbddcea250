"""A fork has its parent's past and another future."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import picolm
from picolm.config.difference import difference
from picolm.errors import PicoLMError
from picolm.report.record import Record
from picolm.runs.directory import RunDirectory
from picolm.runs.lineage import past
from picolm.runs.summary import summarize
from picolm.runs.verification import verify_run
from picolm.training.trainer import Trainer

Overrides = dict[str, object]


def parent_of(small_run: Overrides, directory: Path, changes: Overrides, with_: tuple[str, ...] = ()) -> RunDirectory:
    overrides = {**small_run, "checkpoints.state.at": [4, 6], "training.ema.start": 2, **changes}
    return picolm.train(picolm.load_config(None, overrides, with_), name="parent", runs_dir=directory)


@pytest.fixture
def parent(small_run: Overrides, tmp_path: Path) -> RunDirectory:
    return parent_of(small_run, tmp_path, {})


def later(run: RunDirectory, step: int) -> list[dict[str, Any]]:
    return [line for line in run.log if line["step"] > step]


def weights(run: RunDirectory, step: int) -> bytes:
    return (run.checkpoint_path(step) / "model.safetensors").read_bytes()


def test_a_fork_that_changes_nothing_goes_on_as_its_parent_did(parent: RunDirectory) -> None:
    child = picolm.fork(parent.path, 6)
    assert child.path == parent.path.with_name("parent-2")
    assert child.log == later(parent, 6)
    assert weights(child, 12) == weights(parent, 12)
    for file in ("state/optimizer.safetensors", "state/average.safetensors", "ema/model.safetensors"):
        assert (child.checkpoint_path(12) / file).read_bytes() == (parent.checkpoint_path(12) / file).read_bytes()
    assert verify_run(child).damage == []
    origin = child.identity["parent"]
    assert (origin["name"], origin["path"], origin["step"]) == ("parent", "../parent", 6)
    assert origin["config_hash"] == parent.identity["config_hash"]
    assert child.attempts[0]["from_checkpoint"] == 6


def test_a_fork_differs_by_what_was_asked_for_and_nothing_else(parent: RunDirectory) -> None:
    child = picolm.fork(
        parent.path, 4, overrides=["training.steps=9"], interventions=["label_smoothing alpha=0.3"], name="other"
    )
    changes = {c.key for c in difference(parent.identity["config"], child.identity["config"])}
    assert changes == {"training.steps", "interventions"}
    assert child.identity["interventions"] == [{"use": "label_smoothing", "name": "label_smoothing", "alpha": 0.3}]
    assert [line["step"] for line in child.log if line["event"] == "train"] == [5, 6, 7, 8, 9]
    assert weights(child, 4) == weights(parent, 4)
    first, second = later(child, 4)[0], later(parent, 4)[0]
    # The same weights on the same rows: the smoothed loss is another one, the gradient too.
    assert first["sequences"] == second["sequences"] and first["loss"] != second["loss"]


def test_a_fork_needs_its_parent_no_more(parent: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = picolm.fork(parent.path, 4, name="whole")
    original = Trainer.update

    def mortal(trainer: Trainer, step: int, views: Any) -> None:
        if step == 5:
            raise RuntimeError("killed")
        original(trainer, step, views)

    monkeypatch.setattr(Trainer, "update", mortal)
    with pytest.raises(RuntimeError):
        picolm.fork(parent.path, 4, name="child")
    monkeypatch.undo()
    shutil.rmtree(parent.path)
    child = picolm.resume(parent.path.with_name("child"))
    assert child.log == whole.log and weights(child, 12) == weights(whole, 12)
    assert past(child) == []


def test_the_curve_of_a_fork_is_stitched(parent: RunDirectory, tmp_path: Path) -> None:
    child = picolm.fork(parent.path, 6, overrides=["validation.every=3", "checkpoints.state.at=9"], name="child")
    grandchild = picolm.fork(child.path, 9, name="grandchild")
    before = past(grandchild)
    lines = [*before, *grandchild.log]
    assert [line["step"] for line in lines if line["event"] == "train"] == list(range(1, 13))
    assert [line["step"] for line in lines if line["event"] == "validation"] == [0, 5, 9, 12]
    assert [point["step"] for point in summarize(grandchild)["curve"]] == [0, 5, 9, 12]
    record = Record.read(grandchild)
    assert len([line for line in record.past if line["event"] == "train"]) == 9
    page = picolm.write_run_report(grandchild).read_text(encoding="utf-8")
    assert "validation, of child" in page
    # Moved together, they still find each other; another run in the parent's place is not taken for it.
    (tmp_path / "moved").mkdir()
    for name in ("parent", "child", "grandchild"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    moved = RunDirectory.open(tmp_path / "moved" / "grandchild")
    assert past(moved) == before
    identity = json.loads((tmp_path / "moved" / "child" / "run.json").read_text())
    (tmp_path / "moved" / "child" / "run.json").write_text(json.dumps({**identity, "config_hash": "0"}))
    assert past(RunDirectory.open(moved.path)) == []


def test_an_intervention_that_is_left_out_leaves_the_rest_as_it_was(small_run: Overrides, tmp_path: Path) -> None:
    parent = parent_of(small_run, tmp_path, {}, ("freeze until=8 parameters=layers.0", "gradient_noise eta=0.001"))
    child = picolm.fork(parent.path, 6, without=["freeze"], name="child")
    assert [item["name"] for item in child.identity["interventions"]] == ["gradient_noise"]
    events = [[event for line in later(run, 6) for event in line.get("interventions", [])] for run in (parent, child)]
    noise = [[event["norm"] for event in found if event["event"] == "noise"] for found in events]
    # The first two steps: the noise of the others is the same, of the frozen block there was none.
    assert len(noise[1]) == 6 and noise[1][0] > noise[0][0]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"at": 5}, "no state at step 5 to fork from; it has states at: 4, 6, 12"),
        ({"at": 4, "overrides": ["model.d_model=64"]}, "a fork keeps the model of its parent"),
        ({"at": 4, "overrides": ["data.sequence_length=16"]}, "a fork keeps the data of its parent"),
        ({"at": 4, "overrides": ["optimizer.kind=muon"]}, "a fork keeps the kind of optimizer"),
        ({"at": 4, "overrides": ["training.stepz=3"]}, "unknown key 'training.stepz'"),
        ({"at": 4, "without": ["freeze"]}, "has no intervention 'freeze' to leave out; it has: none"),
        ({"at": 4, "name": "parent"}, "exists; choose another --name"),
        ({"at": 4, "interventions": ["label_smothing"]}, "did you mean 'label_smoothing'"),
    ],
)
def test_what_would_be_no_fork_is_refused(parent: RunDirectory, asked: dict[str, Any], sentence: str) -> None:
    before = sorted(path.name for path in parent.path.parent.iterdir())
    with pytest.raises(PicoLMError, match=sentence):
        picolm.fork(parent.path, **asked)
    assert sorted(path.name for path in parent.path.parent.iterdir()) == before


def test_a_damaged_checkpoint_is_no_beginning(parent: RunDirectory) -> None:
    file = parent.checkpoint_path(4) / "state" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(PicoLMError, match=r"cannot fork from step 4: .*optimizer\.safetensors has"):
        picolm.fork(parent.path, 4)


def test_a_fork_at_the_beginning_is_a_run_with_a_parent(parent: RunDirectory) -> None:
    child = picolm.fork(parent.path, 0, name="child")
    assert child.log == parent.log and weights(child, 12) == weights(parent, 12)
    assert child.identity["parent"]["step"] == 0
