"""Heat maps and curves of what was measured inside a model."""

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from picolm.report.heatmap import HeatMap
from picolm.report.measured import blocks, names
from picolm.report.page import write_run_report
from picolm.runs.captures import metrics_path
from picolm.runs.directory import RunDirectory
from picolm.runs.tables import Measured, read_metrics, write_metrics

STEPS = (0, 1, 2, 4, 8, 16)


def measured(step: int) -> Iterable[Measured]:
    for layer in range(3):
        yield Measured(step, "effective_rank", f"layers.{layer}.attention.o_proj", layer, None, None, 90 + layer + step)
        yield Measured(step, "condition_number", f"layers.{layer}.mlp.up_proj", layer, None, None, 10.0 ** (layer + 1))
        for head in range(2):
            site = f"layers.{layer}.attention.pattern"
            yield Measured(step, "attention_entropy", site, layer, head, "held_out", 0.1 * layer + head + 0.01 * step)
        # By its number, `residual.1` is what layer 0 hands on.
        yield Measured(step, "mean_cosine", f"residual.{layer + 1}", layer, None, "held_out", 0.2 * layer - 0.1)
    yield Measured(step, "frobenius_norm", "embedding", None, None, None, 5.0 + step)


@pytest.fixture
def measured_run(make_run: Callable[..., RunDirectory]) -> RunDirectory:
    run = make_run()
    for step in STEPS:
        write_metrics(metrics_path(run.path, step), measured(step))
    return run


def figures(path: Path) -> dict[str, Any]:
    found = re.search(r'<script id="figures" type="application/json">(.*?)</script>', path.read_text(), re.DOTALL)
    assert found is not None
    return {figure["title"]: figure for figure in json.loads(found[1])}


def view(figure: dict[str, Any], label: str) -> dict[str, Any]:
    chosen = next(view for view in figure["views"] if view["label"] == label)
    trace: dict[str, Any] = figure["traces"][chosen["traces"][0]]
    return trace


def test_heat_map_holds_the_values_of_the_table(measured_run: RunDirectory) -> None:
    page = figures(write_run_report(measured_run))
    trace = view(page["effective_rank"], "layers.*.attention.o_proj")
    table = read_metrics(measured_run.path / "metrics").to_pylist()
    of_table = {
        (str(row["step"]), str(row["layer"])): row["value"] for row in table if row["metric"] == "effective_rank"
    }
    of_page = {
        (step, layer): value
        for layer, row in zip(trace["y"], trace["z"], strict=True)
        for step, value in zip(trace["x"], row, strict=True)
    }
    assert of_page == of_table
    assert trace["x"] == [str(step) for step in STEPS], "in the order of steps, not of their names"
    assert (trace["zmin"], trace["zmax"]) == (90, 108)


def test_heads_are_averaged_and_shown_one_by_one(measured_run: RunDirectory) -> None:
    entropy = figures(write_run_report(measured_run))["attention_entropy"]
    mean = view(entropy, "layers.*.attention.pattern, mean of heads")
    each = view(entropy, "layers.*.attention.pattern, each head")
    assert each["y"] == ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]
    for layer in range(3):
        pairs = zip(each["z"][2 * layer], each["z"][2 * layer + 1], strict=True)
        assert mean["z"][layer] == pytest.approx([(a + b) / 2 for a, b in pairs])


def test_colours_diverge_at_zero_where_a_metric_has_two_signs(measured_run: RunDirectory) -> None:
    page = figures(write_run_report(measured_run))
    cosine = view(page["mean_cosine"], "residual.*")
    assert (cosine["colorscale"], cosine["zmin"], cosine["zmax"]) == ("RdBu", pytest.approx(-0.3), pytest.approx(0.3))
    assert cosine["y"] == ["1", "2", "3"], "by the number in the site"
    assert view(page["effective_rank"], "layers.*.attention.o_proj")["colorscale"] == "Viridis"


def test_site_without_layers_is_a_curve(measured_run: RunDirectory) -> None:
    norm = view(figures(write_run_report(measured_run))["frobenius_norm"], "embedding")
    assert (norm["type"], norm["x"], norm["y"]) == ("scatter", list(STEPS), [5.0 + step for step in STEPS])


def test_one_step_is_a_curve_over_layers(make_run: Callable[..., RunDirectory]) -> None:
    run = make_run()
    write_metrics(metrics_path(run.path, 4), measured(4))
    rank = figures(write_run_report(run))["effective_rank"]
    assert rank["views"][0]["xaxis"]["title"]["text"] == "layer"
    assert (rank["traces"][0]["x"], rank["traces"][0]["y"]) == ([0, 1, 2], [94, 95, 96])


def test_values_over_decades_are_coloured_by_logarithm_and_written_as_they_are() -> None:
    drawn = HeatMap("k", ["0", "1"], ["0"], [[1.0, 100_000.0]]).as_plotly()
    assert drawn["z"] == [[0.0, 5.0]]
    assert drawn["customdata"] == [[1.0, 100_000.0]]
    assert "customdata" in drawn["hovertemplate"]
    assert drawn["colorbar"]["ticktext"] == ["1", "10", "100", "1000", "10000", "100000"]
    assert not HeatMap("k", ["0", "1"], ["0"], [[0.0, 1e5]]).logarithmic, "0 has no logarithm"


def test_what_is_not_defined_stays_empty(make_run: Callable[..., RunDirectory]) -> None:
    run = make_run()
    for step in (0, 1):
        rows = [Measured(step, "cka", f"residual.{n}", n, None, "p", math.nan if step == n else 0.5) for n in (0, 1)]
        write_metrics(metrics_path(run.path, step), rows)
    assert view(figures(write_run_report(run))["cka"], "residual.*")["z"] == [[None, 0.5], [0.5, None]]


def test_metric_is_explained_with_its_range(measured_run: RunDirectory) -> None:
    source = write_run_report(measured_run).read_text()
    from picolm.analysis.metric import metric

    assert f"{metric('mean_cosine').summary.rstrip('.')}. From -1 to 1." in source


def test_blocks_part_batches_and_comparisons() -> None:
    row = {"step": 1, "metric": "cka", "site": "layers.0.mlp", "layer": 0, "head": None, "probe": "a", "value": 0.5}
    found = blocks([row, {**row, "probe": "b"}, {**row, "against": "final"}, {**row, "site": "layers.7.mlp"}])
    assert names(found) == ["layers.*.mlp, a", "layers.*.mlp, b", "layers.*.mlp, a, against final"]
    assert found[0].layers == [0, 7]


def test_circuits_have_their_head_in_their_name() -> None:
    row = {"step": 1, "metric": "per", "layer": 2, "head": None, "probe": None, "value": 0.5}
    (block,) = blocks({**row, "site": f"layers.2.attention.ov.{head}"} for head in (0, 1))
    assert (block.kind, block.heads, block.places) == ("layers.*.attention.ov.*", [0, 1], [(2, 0), (2, 1)])


def test_of_many_steps_some_are_shown_and_counted(measured_run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("picolm.report.metrics._MOST_CELLS", 9)
    rank = figures(write_run_report(measured_run))["effective_rank"]
    trace = view(rank, "layers.*.attention.o_proj, 3 of 6 steps")
    assert trace["x"] == ["0", "2", "16"]
    assert trace["z"] == [[90 + layer + step for step in (0, 2, 16)] for layer in range(3)]


def test_curves_over_steps_that_span_decades_have_a_logarithmic_axis(make_run: Callable[..., RunDirectory]) -> None:
    run = make_run()
    for step in (1, 10, 100):
        write_metrics(metrics_path(run.path, step), [Measured(step, "max_abs", "embedding", None, None, None, 1.0)])
    assert figures(write_run_report(run))["max_abs"]["views"][0]["xaxis"]["type"] == "log"
