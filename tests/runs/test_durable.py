import errno
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from picolm.errors import PicoLMError
from picolm.runs.digest import canonical_json
from picolm.runs.durable import committed_directory, discard_partials, write_json, write_text


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"\\u00e9","b":[1,2.5]}'
    assert canonical_json({"b": 1, "a": 2}) == canonical_json({"a": 2, "b": 1})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_identity_files_refuse_numbers_that_json_cannot_say(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json({"x": number})
    with pytest.raises(PicoLMError, match=r"run\.json.*not finite"):
        write_json(tmp_path / "run.json", {"x": number})
    assert list(tmp_path.iterdir()) == []


def test_write_json_reads_back_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    value = {"z": 1, "a": ["é", "\udc80", "line\nbreak"]}
    write_json(path, {"old": True})
    write_json(path, value)
    assert json.loads(path.read_bytes()) == value
    assert "é" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(PicoLMError, match=r"x\.txt: No space left.*free some space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match="create the directory first"):
        write_text(tmp_path / "nowhere" / "x.txt", "text")


def test_file_is_flushed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    seen: list[bool] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        seen.append(path.exists())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    write_text(path, "text")
    assert seen == [False, True], "first the file without its name, then the directory with it"


def test_directory_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "result"
    with committed_directory(path) as directory:
        (directory / "state").mkdir()
        (directory / "state" / "a.bin").write_bytes(b"a")
        assert directory.parent == path.parent
        assert not path.exists()
    assert (path / "state" / "a.bin").read_bytes() == b"a"
    assert list(path.parent.iterdir()) == [path]


def test_directory_is_flushed_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    with committed_directory(tmp_path / "result") as directory:
        (directory / "state").mkdir()
        (directory / "state" / "a.bin").write_bytes(b"a")
        (directory / "b.bin").write_bytes(b"b")
        monkeypatch.setattr(os, "fsync", spy)
    assert sorted(flushed[:3]) == ["a.bin", "b.bin", "state"]
    assert flushed[3].startswith(".result.partial-")
    assert flushed[4:] == [tmp_path.name]


def test_directory_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), committed_directory(tmp_path / "result") as directory:
        (directory / "a.bin").write_bytes(b"a")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


class RustError(Exception):
    """What safetensors raises: not an OSError."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RustError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_full_disk_inside_the_directory_is_explained(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(PicoLMError, match="result: the disk is full; free some space"):  # noqa: SIM117
        with committed_directory(tmp_path / "result"):
            raise error
    assert list(tmp_path.iterdir()) == []


def test_other_errors_inside_the_directory_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), committed_directory(tmp_path / "result"):
        (tmp_path / "source").read_bytes()


def test_directory_refuses_to_replace(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.mkdir()
    with committed_directory(path) as directory:
        (directory / "first").touch()
    with pytest.raises(PicoLMError, match="result exists already"), committed_directory(path):
        pytest.fail("nothing may be written for a name that is taken")
    assert [file.name for file in path.iterdir()] == ["first"]


def test_directory_refuses_a_name_taken_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "result"
    with pytest.raises(PicoLMError, match="result exists already"), committed_directory(path):
        path.mkdir()
        (path / "theirs").touch()
    assert [file.name for file in tmp_path.rglob("*")] == ["result", "theirs"]


def test_partials_of_dead_processes_of_this_machine_are_discarded_and_no_others(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as alive:
        with subprocess.Popen([sys.executable, "-c", ""]) as dead:
            dead.wait()
        here = platform.node()
        (tmp_path / "step-00000001").mkdir()
        (tmp_path / f".step-00000002.partial-{here}-{dead.pid}-ab" / "state").mkdir(parents=True)
        (tmp_path / f".run.json.partial-{here}-{dead.pid}-cd").touch()
        (tmp_path / f".reused.partial-{here}-{os.getpid()}-ef").touch()
        kept = {
            f".alive.partial-{here}-{alive.pid}-ab",
            f".elsewhere.partial-other-{here}-{dead.pid}-ab",
            ".lock",
            ".mine.partial",
        }
        for name in kept:
            (tmp_path / name).touch()
        with committed_directory(tmp_path / "mine"):
            removed = discard_partials(tmp_path)
        assert sorted(path.name.split(".")[1] for path in removed) == ["reused", "run", "step-00000002"]
        assert {path.name for path in tmp_path.iterdir()} == {*kept, "step-00000001", "mine"}
        alive.communicate(b"\n")
