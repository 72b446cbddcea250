"""`picolm analyze`: what it prints and writes is what the library gives; mistakes are one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from picolm.analysis.metric import REGISTRY
from picolm.analysis.table import read_table
from picolm.commands.analysis import _parted

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def analyze(call: Call) -> Call:
    return partial(call, "analyze")


def test_the_table_on_screen_and_the_json_are_those_on_disk(run: Path, analyze: Call, tmp_path: Path) -> None:
    asked = [str(run), "--metrics", "per,frobenius_norm", "--sites", "layers.*.attention.ov.*,embedding"]
    code, out, _ = analyze(*asked)
    assert code == 0 and "layers.*.attention.ov.*" in out and str(run / "metrics") in out.replace("\n", "")
    table = read_table(run)
    mean = table.filter((table["metric"] == "per") & (table["head"].is_not_null()) & (table["step"] == 3))[
        "value"
    ].mean()
    assert f"{mean:.4g}" in out
    code, out, _ = analyze(*asked, "--json")
    (found,) = json.loads(out)
    assert code == 0 and found["rows"] == table.to_dicts() and len(found["rows"]) == 2 * 3 * (8 + 1)


def test_several_targets_and_a_probe(run: Path, analyze: Call, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one two three four five six seven eight " * 30)
    model = shutil.copytree(run / "checkpoints" / "step-00000003", tmp_path / "step-00000003")
    asked = [
        "--metrics",
        "cka",
        "--metrics",
        "sink_mass",
        "--sites",
        "residual.*",
        "--sites",
        "layers.*.attention.pattern",
    ]
    shown = ["--probe", str(text), "--probe-rows", "4", "--probe-length", "16", "--output", str(tmp_path / "out")]
    code, out, error = analyze(str(run), str(model), *asked, *shown, "--json")
    assert code == 0, error
    both = json.loads(out)
    assert [{row["step"] for row in one["rows"]} for one in both] == [{0, 2, 3}, {3}]
    assert {row["probe"] for row in both[0]["rows"]} == {"text.txt"}
    assert {row["metric"] for row in both[0]["rows"]} == {"cka", "sink_mass"}
    assert [row for row in both[0]["rows"] if row["step"] == 3] == both[1]["rows"]
    assert read_table(tmp_path / "out" / "run").height == len(both[0]["rows"])


def test_the_list_names_every_metric_and_the_sites_of_a_target(run: Path, analyze: Call) -> None:
    code, out, _ = analyze("--list")
    assert code == 0 and all(name in out for name in REGISTRY)
    code, out, _ = analyze(str(run), "--metrics", "list", "--json")
    listed = json.loads(out)
    assert code == 0 and [one["name"] for one in listed["metrics"]] == list(REGISTRY)
    assert "layers.*.attention.ov.*" in listed["sites"][str(run)]["matrix"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name at least one target"),
        (["RUN"], "name at least one metric"),
        (["RUN", "--metrics", "pre", "--sites", "embedding"], "there is no metric 'pre'; did you mean"),
        (["RUN", "--metrics", "per", "--sites", "embeding"], "there is no site 'embeding'; did you mean"),
        (["RUN", "--metrics", "cka", "--sites", "residual.*"], "has no captures to read activations"),
        (["RUN", "--metrics", "cka", "--sites", "residual.*", "--probe", "nowhere.txt"], "'nowhere.txt'"),
        (["RUN", "--metrics", "per", "--sites", "embedding", "--steps", "soon"], "steps can be all, last"),
        (["RUN", "RUN", "--metrics", "per", "--sites", "embedding"], "would both go to"),
        (["nowhere", "--metrics", "per", "--sites", "embedding"], "there is no directory 'nowhere'"),
    ],
)
def test_mistakes_are_one_sentence(run: Path, analyze: Call, arguments: list[str], sentence: str) -> None:
    code, out, error = analyze(*(str(run) if word == "RUN" else word for word in arguments))
    assert (code, out) == (2, "") and sentence in error and "Traceback" not in error
    assert error.startswith("picolm: ") and error.count("\n") == 1


def test_a_metric_that_finds_nothing_to_compare_is_named(run: Path, analyze: Call) -> None:
    asked = ["--metrics", "per,relative_change", "--sites", "embedding", "--against", "previous"]
    code, _, error = analyze(str(run), *asked, "--steps", "0")
    assert code == 0 and "'relative_change' has no value" in error and "'per'" not in error
    code, _, error = analyze(str(run), *asked)
    assert code == 0 and "has no value" not in error


def test_commas_part_patterns_but_not_what_stands_in_brackets() -> None:
    assert _parted(["a.*,delta(b; init, t), c", "gradient(d)"]) == ["a.*", "delta(b; init, t)", "c", "gradient(d)"]
