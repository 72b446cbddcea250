"""Every file of a run: cut short, with one bit flipped, or gone; `verify` names it, and `resume` survives it."""

import shutil
from pathlib import Path

import pytest

import picolm
from picolm.errors import PicoLMError
from picolm.runs.directory import RunDirectory
from picolm.runs.verification import verify_run

FILES = [
    "run.json",
    "ledger.jsonl",
    "log.jsonl",
    "timings.jsonl",
    "attempts.jsonl",
    "report.html",
    *(
        f"checkpoints/step-00000012/{name}"
        for name in (
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "manifest.json",
            "state/state.json",
            "state/optimizer.safetensors",
        )
    ),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    folder = tmp_path_factory.mktemp("verified")
    shape = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ffn": 16, "max_length": 64}
    overrides: dict[str, object] = {
        "data": {"sources": [str(corpus)], "cache": str(folder / "cache"), "sequence_length": 32},
        "tokenizer.vocab_size": 300,
        "model": shape,
        "training": {"steps": 12, "batch_size": 4, "device": "cpu"},
        "schedule.warmup_steps": 2,
        "checkpoints": {"state": {"every": 4}, "model": {"every": 6, "per_doubling": 0, "at": []}},
        "samples.max_tokens": 3,
    }
    return picolm.train(picolm.load_config(None, overrides), name="run", runs_dir=folder).path


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_every_file_that_a_run_writes_is_in_the_list(finished: Path) -> None:
    written = {file.relative_to(finished).as_posix() for file in finished.rglob("*") if file.is_file()}
    last = {name for name in written if not name.startswith("checkpoints/") or "step-00000012" in name}
    assert last - {".lock"} == set(FILES)
    found = verify_run(RunDirectory(finished))
    assert (found.damage, found.notes) == ([], [])
    assert found.files == len(written - {".lock", "report.html"})


def damage(file: Path, kind: str) -> None:
    data = bytearray(file.read_bytes())
    if kind == "deleted":
        file.unlink()
    elif kind == "cut short":
        file.write_bytes(data[: len(data) * 2 // 3])
    elif kind == "emptied":
        file.write_bytes(b"")
    else:
        # Somewhere in the middle, and near the end, where the last line of a log stands.
        place = len(data) // 2 if kind == "flipped" else len(data) - 12
        data[place] ^= 4
        file.write_bytes(data)


@pytest.mark.parametrize("kind", ["deleted", "cut short", "emptied", "flipped", "flipped near the end"])
@pytest.mark.parametrize("name", FILES)
def test_any_damage_is_named_and_survived_where_that_is_possible(copy: Path, name: str, kind: str) -> None:
    file = copy / name
    damage(file, kind)
    found = verify_run(RunDirectory(copy))
    assert found.damage, f"{name} {kind}"
    assert any(file.name in sentence for sentence in found.damage), found.damage
    if name == "run.json":
        # What the run is stands nowhere else, and a run must not go on as another one.
        with pytest.raises(PicoLMError, match=r"run\.json"):
            picolm.resume(copy)
        with pytest.raises(PicoLMError, match=r"run\.json"):
            picolm.fork(copy, 12)
        return
    said: list[str] = []
    picolm.resume(copy, warn=said.append)
    again = verify_run(RunDirectory(copy))
    # Of a ledger that lost its last lines only, a kill may have been the reason.
    lost_its_end = name == "ledger.jsonl" and kind == "cut short"
    # The page is made from the others, and written again by `report`.
    if name != "report.html" and not lost_its_end:
        assert said, f"resume passed over {name} in silence"
    if "checkpoints" in name or name == "ledger.jsonl":
        assert again.damage == []


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match="there is no run"):
        verify_run(RunDirectory(tmp_path / "nothing"))
