"""`picolm corrections`: what it prints and writes is what the library gives; files of others are not replaced."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from picolm.analysis.study import carry_out, read_study

Call = Callable[..., tuple[int, str, str]]


def test_a_study_of_one_model_is_measured_tested_and_written(run: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one two three four five six seven eight " * 30)
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text(
        f"study: 1\nmodels: {{only: {run}}}\nprobe: {tmp_path / 'text.txt'}\nprobe_rows: 4\nprobe_length: 16\n"
    )
    code, printed, error = call("corrections", str(file), "--output", str(out), "--json")
    assert code == 0, error
    # The run captured nothing, which leaves out what needs the last tokens alone, and is said.
    assert "without the rungs of the published recipe" in error
    found = carry_out(read_study(file), output=out)
    assert json.loads(printed)["links"] == found.links.to_dicts()
    with (out / "links.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {row["rung"] for row in rows} == {"all_tokens", "graded", "whole_spectrum", "over_noise", "no_threshold"}
    assert json.loads((out / "study.json").read_text())["study"]["models"] == {"only": [str(run)]}
    code, _, error = call("corrections", str(file), "--output", str(out))
    assert code == 0, error


def test_mistakes_are_one_sentence_before_anything_is_measured(run: Path, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(f"study: 1\nmodels: {{a: {run}, b: {tmp_path}/none*}}\nprobe: text.txt\n")
    code, _, error = call("corrections", str(file), "--output", str(tmp_path / "out"))
    assert code == 2 and "there is no model of size 'b'" in error and "Traceback" not in error
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "links.csv").write_text("mine")
    code, _, error = call("corrections", str(file), "--output", str(tmp_path / "mine"))
    assert code == 2 and "was not written by picolm corrections" in error
    assert (tmp_path / "mine" / "links.csv").read_text() == "mine"
