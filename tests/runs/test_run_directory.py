import json
from pathlib import Path

import pytest

from picolm.errors import PicoLMError
from picolm.runs.directory import Checkpoint, RunDirectory, free_name
from picolm.runs.durable import committed_directory, put_aside
from picolm.runs.log import LogWriter
from picolm.runs.manifest import DamagedManifestError, write_manifest

IDENTITY = {"config": {"model": {"d_model": 96}}, "seeds": {"init": 3}}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "runs" / "tiny", IDENTITY)


def add_checkpoint(run: RunDirectory, step: int) -> Checkpoint:
    path = run.checkpoint_path(step)
    with committed_directory(path) as directory:
        (directory / "model.bin").write_bytes(b"weights")
        write_manifest(directory, step=step)
    return Checkpoint(step, path)


def test_created_run_opens_with_its_identity(run: RunDirectory) -> None:
    opened = RunDirectory.open(run.path)
    assert opened.name == "tiny"
    assert opened.identity.items() >= {**IDENTITY, "format": 1, "kind": "picolm-run"}.items()
    assert isinstance(opened.identity["picolm"], str)
    assert (opened.log, opened.timings, opened.attempts, opened.checkpoints) == ([], [], [], [])
    assert opened.latest_checkpoint() == (None, [])


def test_existing_run_is_never_touched(run: RunDirectory) -> None:
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(PicoLMError, match=r"run .*tiny exists; choose another --name"):
        RunDirectory.create(run.path, {"seeds": {"init": 4}})
    assert (run.path / "run.json").read_bytes() == before


def test_run_may_fill_an_empty_directory_but_no_other(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert RunDirectory.create(tmp_path / "empty", IDENTITY).identity["seeds"] == {"init": 3}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(PicoLMError, match="choose another --name"):
        RunDirectory.create(tmp_path / "mine", IDENTITY)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_identity_that_json_cannot_say_leaves_no_run(tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match="not finite"):
        RunDirectory.create(tmp_path / "tiny", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_unknown_run_names_the_nearest(run: RunDirectory) -> None:
    with pytest.raises(PicoLMError, match=r"there is no run .*tinny; did you mean 'tiny'\?"):
        RunDirectory.open(run.path.with_name("tinny"))
    with pytest.raises(PicoLMError, match=r"there is no run [^;]*$"):
        RunDirectory.open(run.path / "nowhere" / "tiny")


def test_directory_without_run_file_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match=r"is not a run: it has no run\.json"):
        RunDirectory.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"run\.json cannot be read"),
        ("[]", "must be a JSON object"),
        ('{"format": 1}', "must say kind 'picolm-run'"),
        ('{"kind": "picolm-run", "format": "1"}', "and format 1"),
        ('{"kind": "picolm-run", "format": 2}', "format 2.*upgrade PicoLM"),
    ],
)
def test_other_run_files_are_refused(run: RunDirectory, content: str, message: str) -> None:
    (run.path / "run.json").write_text(content)
    with pytest.raises(PicoLMError, match=message):
        RunDirectory.open(run.path)


def test_lines_are_read_from_their_files(run: RunDirectory) -> None:
    for path, value in ((run.log_path, "log"), (run.timings_path, "timings"), (run.attempts_path, "attempts")):
        with LogWriter(path) as writer:
            writer.append({"from": value})
    assert [run.log, run.timings, run.attempts] == [[{"from": name}] for name in ("log", "timings", "attempts")]
    assert sorted(path.name for path in run.path.glob("*.jsonl")) == ["attempts.jsonl", "log.jsonl", "timings.jsonl"]


def test_checkpoints_stand_in_the_order_of_steps(run: RunDirectory) -> None:
    for step in (1000, 0, 100_000_000, 20):
        add_checkpoint(run, step)
    assert [checkpoint.step for checkpoint in run.checkpoints] == [0, 20, 1000, 100_000_000]
    assert run.checkpoint_path(1000) == run.path / "checkpoints" / "step-00001000"
    assert run.checkpoints[2].manifest["step"] == 1000
    assert run.checkpoints[2].size_bytes == len(b"weights")


def test_what_is_no_checkpoint_is_not_listed(run: RunDirectory) -> None:
    good = add_checkpoint(run, 1)
    for name in ("step-2", "step-000000003", "step-00000004.damaged", ".step-00000005.partial-ab", "step-0000000x"):
        directory = good.path.with_name(name)
        directory.mkdir()
        write_manifest(directory)
    good.path.with_name("step-00000006").touch()
    good.path.with_name("step-00000007").mkdir()
    assert run.checkpoints == [good]


def test_newest_whole_checkpoint_is_found_and_the_damage_named(run: RunDirectory) -> None:
    for step in (1, 2, 3, 4):
        add_checkpoint(run, step)
    (run.checkpoint_path(4) / "manifest.json").write_text('{"form')
    (run.checkpoint_path(3) / "model.bin").write_bytes(b"weighTs")
    checkpoint, warnings = run.latest_checkpoint()
    assert checkpoint == Checkpoint(2, run.checkpoint_path(2))
    assert len(warnings) == 2
    assert "step-00000004/manifest.json cannot be read" in warnings[0]
    assert "step-00000003/model.bin was changed" in warnings[1]
    assert [(item.step, bool(item.damaged())) for item in run.checkpoints] == [(1, False), (2, False), (3, True)]


def test_no_whole_checkpoint_is_none_with_reasons(run: RunDirectory) -> None:
    (add_checkpoint(run, 1).path / "model.bin").unlink()
    assert run.latest_checkpoint() == (None, [f"{run.checkpoint_path(1)}/model.bin is missing"])


def test_checkpoint_of_a_newer_picolm_is_not_passed_over(run: RunDirectory) -> None:
    add_checkpoint(run, 1)
    newer = add_checkpoint(run, 2)
    content = json.loads((newer.path / "manifest.json").read_text())
    (newer.path / "manifest.json").write_text(json.dumps(content | {"format": 2}))
    with pytest.raises(PicoLMError, match="upgrade PicoLM"):
        run.latest_checkpoint()


def test_damaged_checkpoint_makes_room_for_its_step(run: RunDirectory) -> None:
    moved = []
    for _ in range(2):
        broken = add_checkpoint(run, 5)
        (broken.path / "model.bin").unlink()
        moved.append(put_aside(broken.path, "damaged").name)
    good = add_checkpoint(run, 5)
    assert moved == ["step-00000005.damaged", "step-00000005.damaged-2"]
    assert run.latest_checkpoint() == (good, [])
    assert run.checkpoints == [good]


def test_manifest_is_read_only_when_asked_for(run: RunDirectory) -> None:
    checkpoint = Checkpoint(9, run.checkpoint_path(9))
    with pytest.raises(DamagedManifestError):
        _ = checkpoint.manifest


def test_free_names(tmp_path: Path) -> None:
    assert free_name(tmp_path / "runs", "tiny") == "tiny"
    for expected in ("tiny", "tiny-2", "tiny-3"):
        assert free_name(tmp_path, "tiny") == expected
        (tmp_path / expected).mkdir()
    (tmp_path / "tiny-2").rmdir()
    assert free_name(tmp_path, "tiny") == "tiny-2"
