"""`picolm converge`: what it prints and writes is what the library gives; mistakes are one sentence."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from picolm.analysis.tending import converge as library

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def converge(monkeypatch: pytest.MonkeyPatch, call: Call) -> Call:
    monkeypatch.setenv("COLUMNS", "200")
    return partial(call, "converge")


@pytest.fixture
def shown(tmp_path: Path) -> list[str]:
    text = tmp_path / "text.txt"
    text.write_text("one two three four five six seven eight " * 30)
    return ["--probe", str(text), "--probe-rows", "4", "--probe-length", "16", "--output", str(tmp_path / "out")]


def test_what_is_printed_and_written_is_what_the_library_gives(
    run: Path, converge: Call, shown: list[str], tmp_path: Path
) -> None:
    before = sorted(run.rglob("*"))
    code, out, _ = converge(str(run), *shown)
    assert code == 0 and "cka to step 3 on text.txt, 64 tokens" in out and "Spearman" in out
    found = library([run], probe=tmp_path / "text.txt", probe_rows=4, probe_length=16, output=tmp_path / "out")
    assert sorted(run.rglob("*")) == before
    with (tmp_path / "out" / "corrected-layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["weight_rank_last"]) for row in rows] == found.layers["weight_rank_last"].to_list()
    assert all(f"{value:.3f}" in out for value in found.layers["similarity_first"])
    code, out, _ = converge(str(run), *shown, "--json")
    printed = json.loads(out)
    assert code == 0 and printed["suites"] == json.loads(json.dumps(found.described["suites"]))
    summary = json.loads((tmp_path / "out" / "corrected.json").read_text())
    assert summary["suites"] == printed["suites"] and summary["targets"] == [str(run.resolve())]


def test_the_published_recipe_says_who_is_early(run: Path, converge: Call, shown: list[str]) -> None:
    code, out, _ = converge(str(run), *shown, "--recipe", "published")
    assert code == 0 and "early: is there at step 0" in out and "per_top_8 first" in out and "Matthews" in out


def test_mistakes_are_one_sentence(run: Path, converge: Call, shown: list[str], tmp_path: Path) -> None:
    code, _, error = converge(str(run), *shown, "--recipe", "correct")
    assert code == 2 and "did you mean 'corrected'" in error and "Traceback" not in error
    code, _, error = converge(str(run), "--output", str(tmp_path / "out"))
    assert code == 2 and "--probe FILE" in error
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "corrected-curves.csv").write_text("mine")
    code, _, error = converge(str(run), *shown)
    assert code == 2 and "was not written by picolm converge" in error
    assert (tmp_path / "out" / "corrected-curves.csv").read_text() == "mine"
