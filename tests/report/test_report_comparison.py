"""Several runs on one page."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from picolm.errors import PicoLMError
from picolm.report.comparison import comparison_figures, read_records, write_comparison
from picolm.runs.captures import metrics_path
from picolm.runs.directory import RunDirectory
from picolm.runs.evaluations import Evaluated, Part
from picolm.runs.log import LogWriter
from picolm.runs.tables import Measured, write_metrics


def small_run(path: Path, *losses: float, **config: Any) -> RunDirectory:
    run = RunDirectory.create(path, {"config": config, "data": {"fingerprint": "aa"}})
    with LogWriter(run.log_path) as writer:
        for step, loss in enumerate(losses):
            writer.append({"event": "validation", "step": step, "loss": loss, "domains": {}})
    return run


def figures(*runs: RunDirectory) -> dict[str, dict[str, Any]]:
    return {figure.title: figure.as_json() for figure in comparison_figures(read_records(runs))}


def curves(figure: dict[str, Any], view: int) -> dict[str, tuple[list[int], list[float]]]:
    traces = [figure["traces"][place] for place in figure["views"][view]["traces"]]
    return {trace["name"]: (trace["x"], trace["y"]) for trace in traces}


def test_each_run_has_a_colour_and_its_own_values(tmp_path: Path) -> None:
    a, b = small_run(tmp_path / "a", 5.0, 4.0), small_run(tmp_path / "b", 6.0, 3.0, 2.0)
    loss = figures(a, b)["Loss"]
    assert curves(loss, 0) == {"a": ([0, 1], [5.0, 4.0]), "b": ([0, 1, 2], [6.0, 3.0, 2.0])}
    assert [(trace["runs"], trace["colour"]) for trace in loss["traces"]] == [([0], "series-1"), ([1], "series-2")]


def test_only_what_differs_is_listed(tmp_path: Path) -> None:
    shared = {"seed": 1, "optimizer": {"kind": "adamw"}}
    runs = [
        small_run(tmp_path / "a", 5.0, training={"steps": 10, "batch_size": 8}, **shared),
        small_run(tmp_path / "b", 5.0, training={"steps": 20, "batch_size": 8}, **shared),
        small_run(tmp_path / "c", 5.0, training={"steps": 10, "batch_size": 16}, extra="<b>", **shared),
    ]
    page = write_comparison(runs, tmp_path / "all.html").read_text()
    table = page[page.index("<h2>Differences</h2>") :]
    rows = re.findall(r"<tr><th[^>]*>([^<]*)</th>((?:<td>[^<]*</td>)+)</tr>", table)
    assert {key: re.findall(r"<td>([^<]*)</td>", cells) for key, cells in rows} == {
        "training.steps": ["10", "20", "10"],
        "training.batch_size": ["8", "8", "16"],
        "extra": ["(absent)", "(absent)", "&lt;b&gt;"],
    }


def test_metrics_are_means_over_layers_and_heads_and_layer_by_layer(tmp_path: Path) -> None:
    runs = [small_run(tmp_path / name, 5.0) for name in ("a", "b")]
    for run, shift in zip(runs, (0.0, 1.0), strict=True):
        for step in (1, 2):
            site = "layers.{}.attention.pattern"
            rows = [
                Measured(
                    step, "attention_entropy", site.format(layer), layer, head, "p", shift + layer + 4 * head + step
                )
                for layer in range(2)
                for head in range(2)
            ]
            write_metrics(metrics_path(run.path, step), rows)
    entropy = figures(*runs)["attention_entropy"]
    labels = [view["label"].rpartition(", ")[2] for view in entropy["views"]]
    assert labels == ["mean of layers", "layer 0", "layer 1"]
    # Layers 0 and 1 and heads 0 and 1 have the means 0.5 and 4 * 0.5.
    assert curves(entropy, 0) == {"a": ([1, 2], [3.5, 4.5]), "b": ([1, 2], [4.5, 5.5])}
    assert curves(entropy, 2) == {"a": ([1, 2], [4.0, 5.0]), "b": ([1, 2], [5.0, 6.0])}


def test_evaluations_of_the_same_task_share_a_plot(tmp_path: Path) -> None:
    runs = [small_run(tmp_path / name, 5.0) for name in ("a", "b")]
    for run, value in zip(runs, (60.0, 70.0), strict=True):
        for step in (1, 2):
            rows = [Evaluated(step, "pairs:blimp", "all", "accuracy", value + step, None, 10)]
            Part(run.path / "eval", step, "pairs", {"x": 1}).write(rows, {"model": "m"})
    accuracy = figures(*runs)["pairs:blimp"]
    assert curves(accuracy, 0) == {"a": ([1, 2], [61.0, 62.0]), "b": ([1, 2], [71.0, 72.0])}


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [small_run(tmp_path / folder / "same", 5.0) for folder in ("x", "y")]
    assert list(curves(figures(*runs)["Loss"], 0)) == ["same (1)", "same (2)"]


def test_more_runs_than_colours_differ_in_their_lines(tmp_path: Path) -> None:
    traces = figures(*(small_run(tmp_path / f"r{place}", 5.0) for place in range(9)))["Loss"]["traces"]
    assert len({(trace["colour"], trace["line"]["dash"]) for trace in traces}) == 9


def test_a_run_named_twice_is_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path / "a", 5.0)
    with pytest.raises(PicoLMError, match="named twice"):
        write_comparison([run, RunDirectory(tmp_path / "x" / ".." / "a")], tmp_path / "all.html")


def test_another_file_is_not_overwritten_and_a_former_page_is(tmp_path: Path) -> None:
    runs = [small_run(tmp_path / name, 5.0) for name in ("a", "b")]
    mine = tmp_path / "mine.html"
    mine.write_text("<p>mine</p>")
    with pytest.raises(PicoLMError, match=r"mine\.html is there, and is no page that PicoLM wrote"):
        write_comparison(runs, mine)
    assert mine.read_text() == "<p>mine</p>"
    page = write_comparison(runs, tmp_path / "all.html")
    assert write_comparison(runs, page) == page


def test_names_of_runs_never_become_markup(make_run: Callable[..., RunDirectory], tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    page = write_comparison([make_run(name), small_run(tmp_path / "b", 5.0)], tmp_path / "all.html").read_text()
    assert "<img" not in page[: page.index("<script")]
    data = re.search(r'<script id="figures" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert data is not None and "<" not in data[1]
    assert json.loads(data[1])[0]["traces"][0]["name"].startswith("&lt;img")
