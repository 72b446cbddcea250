"""The ledger says what a run holds, and no change of it goes unseen."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picolm.runs.digest import sha256_of_bytes, sha256_of_json
from picolm.runs.directory import RunDirectory
from picolm.runs.durable import json_bytes, write_json
from picolm.runs.ledger import LEDGER, Ledger, read_ledger, seal_of
from picolm.runs.log import LogWriter, whole_length
from picolm.runs.manifest import MANIFEST, without, write_manifest
from picolm.runs.verification import verify_run


def write_run(folder: Path) -> Path:
    """A run without a model: an identity, a log, two checkpoints of one small file each, and the ledger of it all."""
    run = RunDirectory.create(folder / "run", {"name": "run", "config": {"training": {"steps": 2}}})
    with Ledger(run.path) as ledger, LogWriter(run.log_path) as log:
        ledger.committed(run.path / "run.json")
        for step in (1, 2):
            log.append({"event": "train", "step": step, "loss": 1 / step})
            log.commit()
            ledger.committed(write_checkpoint(run, step), {run.log_path.name: log.mark})
        ledger.append({"event": "started", "marks": {}})
    return run.path


def write_checkpoint(run: RunDirectory, step: int) -> Path:
    path = run.checkpoint_path(step)
    (path / "state").mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights %d" % step)
    (path / "state" / "state.json").write_bytes(b"state")
    write_manifest(path, kind="picolm-checkpoint", step=step)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path)


def rewrite(run: Path, lines: list[bytes]) -> None:
    (run / LEDGER).write_bytes(b"".join(line + b"\n" for line in lines))


def lines_of(run: Path) -> list[bytes]:
    return (run / LEDGER).read_bytes().split(b"\n")[:-1]


def test_a_seal_is_the_hash_of_the_seal_before_and_of_the_line(run: Path) -> None:
    seal = ""
    for raw in lines_of(run):
        line = json.loads(raw)
        said = line.pop("seal")
        assert said == sha256_of_json([seal, line])
        seal = said


def test_it_says_what_the_run_holds(run: Path) -> None:
    holdings = read_ledger(run)
    assert holdings.faults == [] and holdings.ended is None and holdings.removed == {}
    assert holdings.committed == {
        "run.json": (seal_of(run / "run.json"),),
        "checkpoints/step-00000001": (seal_of(run / "checkpoints/step-00000001" / MANIFEST),),
        "checkpoints/step-00000002": (seal_of(run / "checkpoints/step-00000002" / MANIFEST),),
    }
    assert holdings.marks["log.jsonl"].n_bytes == (run / "log.jsonl").stat().st_size


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("sealed"))


@settings(max_examples=300)
@given(data=st.data(), kind=st.sampled_from(["replaced", "removed"]))
def test_a_change_of_any_one_character_is_found(one_run: Path, data: st.DataObject, kind: str) -> None:
    ledger = one_run / LEDGER
    whole = ledger.read_bytes()
    # Without the newline at the very end a line is only torn, as by a kill.
    place = data.draw(st.integers(0, len(whole) - 2))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
    changed = whole[:place] + (bytes([other]) if kind == "replaced" else b"") + whole[place + 1 :]
    try:
        ledger.write_bytes(changed)
        assert read_ledger(one_run).faults, changed
        assert any(LEDGER in sentence for sentence in verify_run(RunDirectory(one_run)).damage)
    finally:
        ledger.write_bytes(whole)


def test_lines_that_change_places_or_are_taken_out_are_found(run: Path) -> None:
    lines = lines_of(run)
    for number in range(len(lines) - 1):
        rewrite(run, [*lines[:number], *lines[number + 1 :]])
        assert read_ledger(run).faults, f"line {number + 1} is missing"
        rewrite(run, [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]])
        assert read_ledger(run).faults, f"line {number + 1} and the next changed places"


def test_what_follows_a_fault_is_not_trusted(run: Path) -> None:
    lines = lines_of(run)
    rewrite(run, [*lines[:2], lines[2].replace(b"step-00000002", b"step-00000003"), *lines[3:]])
    holdings = read_ledger(run)
    assert set(holdings.committed) == {"run.json", "checkpoints/step-00000001"}
    assert holdings.faults == [f"{run / LEDGER} was changed: line 3 does not fit its seal"]


@pytest.mark.parametrize("line", [{"event": "committed"}, {"event": "removed", "path": "x"}, {"marks": {}}])
def test_a_sealed_line_that_makes_no_sense_is_a_fault_and_no_traceback(run: Path, line: dict[str, object]) -> None:
    with Ledger(run) as ledger:
        ledger.append(line)
    (fault,) = read_ledger(run).faults
    assert fault.startswith(f"{run / LEDGER} was changed: ")
    assert fault in verify_run(RunDirectory(run)).damage


def test_a_torn_last_line_is_no_fault_and_the_chain_goes_on_from_the_line_before(run: Path) -> None:
    whole = (run / LEDGER).read_bytes()
    (run / LEDGER).write_bytes(whole[:-20])
    assert read_ledger(run).faults == []
    found = verify_run(RunDirectory(run))
    assert found.damage == [] and any("torn line" in note for note in found.notes)
    with Ledger(run) as ledger:
        ledger.append({"event": "resumed", "step": 2})
    assert read_ledger(run).faults == []
    assert json.loads(lines_of(run)[-1])["event"] == "resumed"
    assert whole_length((run / LEDGER).read_bytes()) == (run / LEDGER).stat().st_size


def test_a_missing_ledger_is_a_fault(run: Path) -> None:
    (run / LEDGER).unlink()
    assert read_ledger(run).faults == [f"{run / LEDGER} is missing: what the run should hold is not known"]


def test_while_something_changes_both_hashes_are_right_and_no_third_one(run: Path) -> None:
    path = run / "checkpoints" / "step-00000001"
    manifest = without(path, "state")
    with Ledger(run) as ledger:
        ledger.changing(path, sha256_of_bytes(json_bytes(manifest)))
    assert verify_run(RunDirectory(run)).damage == []
    write_json(path / MANIFEST, manifest)
    assert verify_run(RunDirectory(run)).damage == []
    write_json(path / MANIFEST, {**manifest, "step": 7})
    (sentence,) = verify_run(RunDirectory(run)).damage
    assert sentence == f"{path / MANIFEST} was changed: its SHA-256 is not the one in {LEDGER}"


def test_what_is_removed_is_not_missed_until_it_is_committed_again(run: Path) -> None:
    path = run / "checkpoints" / "step-00000002"
    with Ledger(run) as ledger:
        ledger.removed(path, "superseded")
        assert read_ledger(run).removed == {"checkpoints/step-00000002": "superseded"}
        (aside := path.with_name("aside")).mkdir()
        path.rename(aside / "inner")
        assert verify_run(RunDirectory(run)).damage == []
        (aside / "inner").rename(path)
        ledger.committed(path)
    holdings = read_ledger(run)
    assert holdings.removed == {} and "checkpoints/step-00000002" in holdings.committed


def test_a_file_that_grows_is_held_to_its_last_mark(run: Path) -> None:
    log = run / "log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"event":"train","step":3}\n')
    assert verify_run(RunDirectory(run)).damage == [], "growing is what it is there for"
    log.write_bytes(whole.replace(b"0.5", b"0.4") + b'{"event":"train","step":3}\n')
    assert any("log.jsonl was changed within its first" in s for s in verify_run(RunDirectory(run)).damage)
    log.write_bytes(whole[: whole.index(b"\n") + 1])
    assert any("says at least" in sentence for sentence in verify_run(RunDirectory(run)).damage)


def test_it_has_ended_only_where_that_is_the_last_thing_that_happened(run: Path) -> None:
    with Ledger(run) as ledger:
        ledger.append({"event": "ended", "step": 2})
        assert read_ledger(run).ended == 2
        ledger.append({"event": "resumed", "step": 1})
    assert read_ledger(run).ended is None


def test_it_knows_what_it_named_when_it_was_opened(run: Path) -> None:
    unnamed = write_checkpoint(RunDirectory(run), 3)
    with Ledger(run) as ledger:
        assert ledger.knows(run / "checkpoints" / "step-00000001") and not ledger.knows(unnamed)


def test_threads_that_append_at_once_keep_the_chain(run: Path) -> None:
    together = threading.Barrier(8)
    with Ledger(run) as ledger:

        def append(number: int) -> None:
            together.wait()
            for count in range(20):
                ledger.append({"event": "note", "by": number, "count": count})

        threads = [threading.Thread(target=append, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert read_ledger(run).faults == []
    notes = [line for raw in lines_of(run) if (line := json.loads(raw))["event"] == "note"]
    assert sorted((line["by"], line["count"]) for line in notes) == [(n, c) for n in range(8) for c in range(20)]
