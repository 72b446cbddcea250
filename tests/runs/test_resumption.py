"""Where a run goes on, and what becomes of its directory then. The runs here hold no model: nothing is trained."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from picolm.errors import PicoLMError
from picolm.runs.directory import RunDirectory
from picolm.runs.durable import write_json
from picolm.runs.ledger import LEDGER, Ledger, read_ledger
from picolm.runs.log import LogWriter, Mark
from picolm.runs.manifest import MANIFEST, verify, without, write_manifest
from picolm.runs.resumption import (
    ResumePoint,
    find_resume_point,
    make_ready,
    settle_earlier,
    steps_in,
    unnamed,
)
from picolm.runs.verification import verify_run


class Small:
    """Makes a run step by step, as training does, with files of a few bytes."""

    def __init__(self, folder: Path) -> None:
        identity = {"name": "run", "config": {"training": {"steps": 9}}}
        self.run = RunDirectory.create(folder / "run", identity)
        with Ledger(self.run.path) as ledger:
            ledger.committed(self.run.path / "run.json")

    def log(self, step: int) -> Mark:
        with LogWriter(self.run.log_path) as log:
            log.append({"event": "train", "step": step, "loss": 1 / step})
            log.commit()
            return log.mark

    def write(self, step: int, mark: Mark, *, state: bytes | None = b"state", weights: str = "weights") -> Path:
        """A checkpoint that the ledger does not know yet."""
        path = self.run.checkpoint_path(step)
        path.mkdir(parents=True)
        (path / "model.safetensors").write_text(f"{weights} {step}")
        if state is not None:
            (path / "state").mkdir()
            (path / "state" / "state.json").write_bytes(state)
        write_manifest(path, kind="picolm-checkpoint", step=step, log=mark.plain())
        return path

    def checkpoint(self, step: int, *, state: bytes | None = b"state", weights: str = "weights") -> Path:
        mark = self.log(step)
        path = self.write(step, mark, state=state, weights=weights)
        with Ledger(self.run.path) as ledger:
            ledger.committed(path, {self.run.log_path.name: mark})
        return path

    def capture(self, step: int) -> Path:
        path = self.run.path / "captures" / f"step-{step:08d}"
        path.mkdir(parents=True)
        (path / "held_out.safetensors").write_text(f"seen {step}")
        write_manifest(path, kind="picolm-capture", step=step)
        with Ledger(self.run.path) as ledger:
            ledger.committed(path)
        return path

    def ready(self) -> tuple[ResumePoint, list[str]]:
        """What `resume` does before it trains."""
        point = find_resume_point(self.run)
        return point, make_ready(self.run, point)

    def names(self, folder: str = "checkpoints") -> list[str]:
        return sorted(path.name for path in (self.run.path / folder).iterdir())

    @property
    def logged(self) -> list[int]:
        return [line["step"] for line in self.run.log]


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


def test_it_goes_on_from_the_newest_whole_checkpoint_with_a_state(small: Small) -> None:
    for step, state in ((1, None), (2, b"state"), (4, b"state"), (5, None)):
        small.checkpoint(step, state=state)
    point, warnings = small.ready()
    assert (point.step, point.damaged, point.warnings, warnings) == (4, (), [], [])


def test_without_any_state_it_begins_anew_and_the_log_is_empty(small: Small) -> None:
    small.checkpoint(1, state=None)
    point, warnings = small.ready()
    assert (point.checkpoint, point.step, warnings) == (None, 0, [])
    assert small.logged == [] and small.names() == ["step-00000001.earlier"]


def test_the_log_is_cut_back_to_where_it_was(small: Small) -> None:
    small.checkpoint(2)
    held = small.run.log_path.read_bytes()
    small.log(3)
    small.log(4)
    assert small.ready()[1] == []
    assert small.run.log_path.read_bytes() == held
    assert verify_run(small.run).damage == []


def test_a_log_that_was_changed_keeps_its_whole_lines_and_the_old_file_stays(small: Small) -> None:
    small.log(1)
    small.checkpoint(2)
    small.log(3)
    text = small.run.log_path.read_text()
    small.run.log_path.write_text(damaged := text.replace('"step":1', '"step"1'))
    (sentence,) = small.ready()[1]
    assert "its 1 whole lines were kept, the old file is log.jsonl.damaged" in sentence
    assert small.logged == [2]
    assert (small.run.path / "log.jsonl.damaged").read_text() == damaged
    assert verify_run(small.run).damage == []


def test_a_damaged_checkpoint_is_put_aside_for_good_and_an_older_one_taken(small: Small) -> None:
    small.checkpoint(2)
    (small.checkpoint(4) / "state" / "state.json").write_bytes(b"statX")
    point, warnings = small.ready()
    assert point.step == 2 and [checkpoint.step for checkpoint in point.damaged] == [4]
    assert "state.json was changed" in point.warnings[0]
    assert warnings == [f"{small.run.checkpoint_path(4)} was put aside as step-00000004.damaged"]
    made = small.checkpoint(4)
    assert settle_earlier(made) == [] and small.names() == ["step-00000002", "step-00000004", "step-00000004.damaged"]
    assert verify_run(small.run).damage == []


def test_a_second_damage_does_not_take_the_place_of_the_first(small: Small) -> None:
    small.checkpoint(2)
    for content in (b"first", b"second"):
        (small.checkpoint(4) / "state" / "state.json").write_bytes(content)
        small.ready()
    kept = [small.run.path / "checkpoints" / f"step-00000004.damaged{end}" for end in ("", "-2")]
    assert [(path / "state" / "state.json").read_bytes() for path in kept] == [b"first", b"second"]


def test_a_manifest_that_agrees_with_its_files_but_not_with_the_ledger_is_damage(small: Small) -> None:
    small.checkpoint(2)
    path = small.checkpoint(4)
    (path / "model.safetensors").write_text("other weights")
    (path / MANIFEST).unlink()
    write_manifest(path, kind="picolm-checkpoint", step=4, log=small.log(4).plain())
    assert verify(path) == []
    point, _ = small.ready()
    assert point.step == 2 and "is not the one in ledger.jsonl" in point.warnings[0]


def test_where_no_state_is_whole_it_does_not_begin_anew_in_silence(small: Small) -> None:
    path = small.checkpoint(2)
    (path / "state" / "state.json").unlink()
    with pytest.raises(PicoLMError, match=r"no whole checkpoint that it could resume from: .*state\.json is missing"):
        find_resume_point(small.run)
    shutil.rmtree(path)
    with pytest.raises(PicoLMError, match=r"no whole checkpoint .*step-00000002 is missing"):
        find_resume_point(small.run)


def test_a_missing_checkpoint_is_named_once_and_forgotten(small: Small) -> None:
    small.checkpoint(2)
    shutil.rmtree(small.checkpoint(3, state=None))
    assert small.ready()[1] == [f"{small.run.checkpoint_path(3)} is missing"]
    assert verify_run(small.run).damage == [] == small.ready()[1]


def test_later_steps_are_put_aside_until_they_are_made_again(small: Small) -> None:
    small.capture(1)
    small.checkpoint(2)
    small.checkpoint(3, state=None)
    small.capture(3)
    assert small.ready()[1] == []
    assert small.names() == ["step-00000002", "step-00000003.earlier"]
    assert small.names("captures") == ["step-00000001", "step-00000003.earlier"]
    found = verify_run(small.run)
    assert found.damage == [] and sum("was put aside" in note for note in found.notes) == 2
    assert settle_earlier(small.checkpoint(3, state=None)) == [] == settle_earlier(small.capture(3))
    assert small.names() == ["step-00000002", "step-00000003"]
    assert small.names("captures") == ["step-00000001", "step-00000003"]
    assert (verify_run(small.run).damage, verify_run(small.run).notes) == ([], [])


def test_what_was_made_again_and_differs_stays_beside_the_new_one_and_is_named(small: Small) -> None:
    small.checkpoint(2)
    small.checkpoint(3, state=None)
    small.ready()
    (sentence,) = settle_earlier(small.checkpoint(3, state=None, weights="other weights"))
    assert sentence.endswith("was made again and is not what it was; the former one is step-00000003.earlier")
    earlier = small.run.path / "checkpoints" / "step-00000003.earlier"
    assert (earlier / "model.safetensors").read_text() == "weights 3"


def test_states_are_not_compared_when_a_step_is_made_again(small: Small) -> None:
    small.checkpoint(2)
    path = small.checkpoint(3)
    write_json(path / MANIFEST, without(path, "state"))
    shutil.rmtree(path / "state")
    with Ledger(small.run.path) as ledger:
        ledger.committed(path)
    small.ready()
    assert settle_earlier(small.checkpoint(3, state=b"another")) == []
    assert small.names() == ["step-00000002", "step-00000003"]


def test_every_earlier_one_is_settled(small: Small) -> None:
    small.checkpoint(2)
    for _ in range(2):
        small.checkpoint(3, state=None)
        small.ready()
    assert small.names() == ["step-00000002", "step-00000003.earlier", "step-00000003.earlier-2"]
    settle_earlier(small.checkpoint(3, state=None))
    assert small.names() == ["step-00000002", "step-00000003"]


def test_an_earlier_one_whose_files_are_damaged_is_not_taken_for_the_same(small: Small) -> None:
    small.checkpoint(2)
    small.checkpoint(3, state=None)
    small.ready()
    (small.run.path / "checkpoints" / "step-00000003.earlier" / "model.safetensors").write_text("w")
    assert len(settle_earlier(small.checkpoint(3, state=None))) == 1


def test_a_checkpoint_that_became_complete_just_before_a_kill_is_adopted(small: Small) -> None:
    small.checkpoint(2)
    path = small.write(4, small.log(4))
    assert unnamed(small.run, read_ledger(small.run.path)) == ([path], [])
    found = verify_run(small.run)
    assert found.damage == [] and any("became complete just before" in note for note in found.notes)
    point, warnings = small.ready()
    assert point.step == 4 and warnings == []
    assert "checkpoints/step-00000004" in read_ledger(small.run.path).committed
    assert (verify_run(small.run).damage, verify_run(small.run).notes) == ([], [])


def test_an_adopted_checkpoint_lets_go_of_what_it_made_again(small: Small) -> None:
    small.checkpoint(2)
    small.checkpoint(4, state=None)
    small.ready()
    small.write(4, small.log(4), state=None)
    small.checkpoint(5)
    small.ready()
    assert small.names() == ["step-00000002", "step-00000004", "step-00000005"]


def test_a_ledger_that_lacks_what_it_must_have_named_was_cut_short(small: Small) -> None:
    for step in (2, 3):
        small.checkpoint(step)
    lines = (small.run.path / LEDGER).read_bytes().splitlines(keepends=True)
    (small.run.path / LEDGER).write_bytes(b"".join(lines[:-2]))
    fresh, forgotten = unnamed(small.run, read_ledger(small.run.path))
    assert (fresh, forgotten) == ([small.run.checkpoint_path(3)], [small.run.checkpoint_path(2)])
    cut = f"{small.run.path / LEDGER} lacks step-00000002: it was cut short"
    assert verify_run(small.run).damage == [cut]
    point, warnings = small.ready()
    assert point.step == 3 and warnings == [cut]
    assert verify_run(small.run).damage == []


def test_a_damaged_ledger_is_put_aside_and_a_new_one_names_all_that_is_whole(small: Small) -> None:
    small.checkpoint(2)
    small.checkpoint(3)
    path = small.run.path / LEDGER
    path.write_bytes(damaged := path.read_bytes().replace(b"step-00000002", b"step-00000001"))
    point, warnings = small.ready()
    assert point.step == 3 and warnings == [f"a new {LEDGER} was begun; the old one is {LEDGER}.damaged"]
    assert (small.run.path / f"{LEDGER}.damaged").read_bytes() == damaged
    holdings = read_ledger(small.run.path)
    assert set(holdings.committed) == {"run.json", "checkpoints/step-00000002", "checkpoints/step-00000003"}
    assert verify_run(small.run).damage == []
    path.unlink()
    assert small.ready()[1] == [f"a new {LEDGER} was begun"]
    assert verify_run(small.run).damage == []


def test_a_second_damage_of_the_ledger_does_not_take_the_place_of_the_first(small: Small) -> None:
    small.checkpoint(2)
    for letters in (b"statE", b"stAte"):
        path = small.run.path / LEDGER
        path.write_bytes(path.read_bytes().replace(b"step-0000000", letters))
        small.ready()
    kept = sorted(path.name for path in small.run.path.glob(f"{LEDGER}.*"))
    assert kept == [f"{LEDGER}.damaged", f"{LEDGER}.damaged-2"]
    assert b"statE" in (small.run.path / f"{LEDGER}.damaged").read_bytes()


def test_what_was_half_removed_or_half_written_goes(small: Small) -> None:
    small.checkpoint(2)
    superseded = small.checkpoint(3)
    folder = small.run.path / "checkpoints"
    (folder / ".step-00000001.removing").mkdir()
    (folder / ".step-00000001.removing" / "model.safetensors").touch()
    # A process that is dead by now was writing here.
    dead = int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))
    (folder / f".step-00000004.partial-{os.uname().nodename}-{dead}-0a0b0c0d").mkdir()
    # The manifest says already that the state is gone.
    manifest = without(superseded, "state")
    write_json(superseded / MANIFEST, manifest)
    with Ledger(small.run.path) as ledger:
        ledger.committed(superseded)
    found = verify_run(small.run)
    assert found.damage == [] and sum("half-written or half-removed" in note for note in found.notes) == 2
    point, warnings = small.ready()
    assert point.step == 2 and warnings == []
    assert small.names() == ["step-00000002", "step-00000003.earlier"]
    assert not (folder / "step-00000003.earlier" / "state").exists()


def test_what_was_to_be_removed_when_the_process_was_killed_is_made_again(small: Small) -> None:
    """The ledger says so first; a kill can come between the two."""
    small.checkpoint(1)
    with Ledger(small.run.path) as ledger:
        ledger.removed(small.run.checkpoint_path(1), "superseded")
    small.checkpoint(2)
    found = verify_run(small.run)
    assert found.damage == [] and any("is about to be removed" in note for note in found.notes)
    point, warnings = small.ready()
    assert point.step == 2 and warnings == []
    assert verify_run(small.run).damage == []


def test_making_ready_twice_is_making_ready_once(small: Small) -> None:
    small.checkpoint(2)
    small.checkpoint(3, state=None)
    small.ready()
    before = {path: path.read_bytes() for path in small.run.path.rglob("*") if path.is_file() and path.name != LEDGER}
    assert small.ready()[1] == []
    after = {path: path.read_bytes() for path in small.run.path.rglob("*") if path.is_file() and path.name != LEDGER}
    assert after == before


def test_a_manifest_that_does_not_say_how_far_the_log_had_come_is_named(small: Small) -> None:
    path = small.run.checkpoint_path(2)
    (path / "state").mkdir(parents=True)
    (path / "state" / "state.json").touch()
    write_manifest(path, kind="picolm-checkpoint", step=2)
    with pytest.raises(PicoLMError, match="does not say how far the log had come"):
        small.ready()


def test_the_directories_of_steps_are_in_the_order_of_steps(tmp_path: Path) -> None:
    for name in (
        "step-100000000",
        "step-00000009",
        "step-00000010",
        "step-00000009.earlier",
        ".step-00000001.removing",
    ):
        (tmp_path / name).mkdir()
    (tmp_path / "step-00000011").touch()
    assert [path.name for path in steps_in(tmp_path)] == ["step-00000009", "step-00000010", "step-100000000"]


def test_a_resume_is_in_the_ledger_with_the_mark_of_the_log(small: Small) -> None:
    small.checkpoint(2)
    small.log(3)
    small.ready()
    last = json.loads((small.run.path / LEDGER).read_bytes().splitlines()[-1])
    assert (last["event"], last["step"]) == ("resumed", 2)
    assert Mark.of(last["marks"]["log.jsonl"]).fits(small.run.log_path)
    assert last["marks"]["log.jsonl"]["bytes"] == small.run.log_path.stat().st_size
