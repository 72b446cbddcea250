"""The pipeline: what was measured is read, what changed or was damaged measured again, nothing foreign touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from picolm.analysis import measure as measuring
from picolm.analysis.measure import Measuring, Tick
from picolm.analysis.table import measure, read_table
from picolm.errors import PicoLMError
from picolm.runs.tables import Measured

ASKED = {"metrics": ["per", "stable_rank"], "sites": ["layers.*.attention.ov.*", "embedding"]}
Suites = dict[str, tuple[Path, dict[int, nn.Module]]]


@pytest.fixture
def suite(neox_suites: Suites, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(neox_suites["small"][0], tmp_path / "suite"))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The steps that were really measured."""
    steps: list[int] = []
    rows = Measuring.rows

    def counted(self: Measuring, step: int, tick: Tick = lambda count: None) -> list[Measured]:
        steps.append(step)
        return rows(self, step, tick)

    monkeypatch.setattr(Measuring, "rows", counted)
    yield steps


def tree(path: Path) -> dict[str, int]:
    return {str(file.relative_to(path)): file.stat().st_mtime_ns for file in path.rglob("*")}


def test_what_was_measured_is_read(suite: Path, tmp_path: Path, measured: list[int]) -> None:
    before = tree(suite)
    first = measure(suite, output=tmp_path / "tables", **ASKED)
    assert sorted(measured) == [0, 1, 512, 1000]
    assert measure(suite, output=tmp_path / "tables", **ASKED).equals(first) and len(measured) == 4
    assert read_table(tmp_path / "tables").equals(first)
    assert tree(suite) == before
    # Another step and another metric are another matter.
    measure(suite, output=tmp_path / "tables", metrics=["gini"], sites=["embedding"], steps="last")
    assert measured[4:] == [1000]
    assert len(read_table(tmp_path / "tables")) == len(first) + 1


def test_a_damaged_part_and_changed_weights_are_measured_again(
    suite: Path, tmp_path: Path, measured: list[int]
) -> None:
    tables = tmp_path / "tables"
    first = measure(suite, output=tables, **ASKED)
    torn = next(tables.glob("*step-00000512*"))
    data = bytearray(torn.read_bytes())
    data[len(data) // 2 :] = b""
    torn.write_bytes(bytes(data))
    file = suite / "step1" / "model.safetensors"
    weights = load_file(file)
    weights["gpt_neox.embed_in.weight"] *= torch.linspace(0.1, 3, 32)
    save_file(weights, file, metadata={"format": "pt"})
    measured.clear()
    second = measure(suite, output=tables, **ASKED)
    assert sorted(measured) == [1, 512]
    changed = first.join(second, on=["step", "metric", "site"], nulls_equal=True).filter(
        (first["value"] - second["value"]).abs() > 1e-12
    )
    assert set(changed["step"]) == {1} and set(changed["site"]) == {"embedding"}
    # What is not asked for may change: nothing depends on it.
    weights["gpt_neox.final_layer_norm.weight"] += 1
    save_file(weights, file, metadata={"format": "pt"})
    measured.clear()
    assert measure(suite, output=tables, **ASKED).equals(second) and not measured
    assert not list(tables.glob(".*")) and len(list(tables.glob("*.parquet"))) == 4


def test_new_code_measures_again(
    suite: Path, tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(suite, output=tmp_path / "tables", steps="last", **ASKED)
    monkeypatch.setattr("picolm.analysis.pipeline.code_digest", lambda: "another")
    measure(suite, output=tmp_path / "tables", steps="last", **ASKED)
    assert measured == [1000, 1000]


def test_an_interruption_keeps_the_steps_that_are_done(suite: Path, tmp_path: Path, measured: list[int]) -> None:
    def interrupt(phase: str, done: int, total: int) -> None:
        # Thirteen sites a step: at the third step the user has seen enough.
        if done > 26:
            raise KeyboardInterrupt

    tables = tmp_path / "tables"
    with pytest.raises(KeyboardInterrupt):
        measure(suite, output=tables, progress=interrupt, **ASKED)
    kept = len(list(tables.glob("*.parquet")))
    assert kept < 4 and not list(tables.glob(".*"))
    measured.clear()
    measure(suite, output=tables, **ASKED)
    assert len(measured) == 4 - kept


def test_progress_ends_at_its_total(suite: Path, measured: list[int]) -> None:
    told: list[tuple[int, int]] = []
    measure(suite, keep=False, progress=lambda phase, done, total: told.append((done, total)), **ASKED)
    assert told[-1] == (4 * 13, 4 * 13) and [done for done, _ in told] == sorted({done for done, _ in told})


def test_values_are_the_same_one_by_one(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = measure(suite, keep=False, **ASKED)
    monkeypatch.setattr(measuring, "_BYTES_AT_ONCE", 1)
    monkeypatch.setattr("picolm.analysis.stacks._ELEMENTS_AT_ONCE", 1)
    monkeypatch.setattr("picolm.analysis.pipeline.workers", lambda n_steps: 1)
    alone = measure(suite, keep=False, **ASKED)
    key = ["step", "metric", "site"]
    assert alone.sort(key)[key].equals(together.sort(key)[key])
    assert ((alone.sort(key)["value"] / together.sort(key)["value"] - 1).abs() < 1e-12).all()


def test_tables_of_a_run_stand_in_it_and_those_of_others_do_not(
    run: Path, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    measure(suite, metrics=["per"], sites=["embedding"], steps="last")
    assert len(list((tmp_path / "analysis" / "suite" / "metrics").glob("analysis.step-00001000.*.parquet"))) == 1
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    table = measure(copy, metrics=["per"], sites=["embedding"])
    assert read_table(copy).filter(metric="per").equals(table)
    # A run is found again where it was moved to.
    moved = copy.rename(tmp_path / "moved")
    assert measure(moved, metrics=["per"], sites=["embedding"]).equals(table)
    with pytest.raises(PicoLMError, match=r"holds the tables of .*suite: choose another --output"):
        measure(moved, metrics=["per"], sites=["embedding"], output=tmp_path / "analysis" / "suite" / "metrics")


def test_pandas_reads_it_too(run: Path) -> None:
    pytest.importorskip("pandas")
    frame = measure(run, metrics=["per"], sites=["embedding"], keep=False).to_pandas()
    assert list(frame.columns) == list(Measured._fields) and list(frame["step"]) == [0, 4, 8]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": "5"}, "there is no step 5; there are: 0, 4, 8"),
        ({"against": "7"}, "has no step 7 to compare with; it has: 0, 4, 8"),
        ({"against": "finale"}, "--against 'finale' is none of: final, previous"),
        ({"metrics": ["cka"], "sites": ["residual.*"], "probe": "held_uot"}, "no probe 'held_uot'.*held_out"),
        ({"metrics": ["rank_me"], "sites": ["residual.9"]}, "there is no site 'residual.9'"),
    ],
)
def test_what_does_not_fit_is_named(run: Path, changes: dict[str, object], sentence: str) -> None:
    asked = {"metrics": ["relative_change"], "sites": ["embedding"], "keep": False} | changes
    with pytest.raises(PicoLMError, match=sentence):
        measure(run, **asked)  # type: ignore[arg-type]


def test_a_suite_without_captures_needs_a_probe(suite: Path) -> None:
    with pytest.raises(PicoLMError, match=r"has no captures .* --probe FILE"):
        measure(suite, metrics=["rank_me"], sites=["residual.*"], keep=False)
