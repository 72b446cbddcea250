"""What a real browser makes of the pages: no complaint, controls that work, the numbers of the tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from picolm.report.comparison import write_comparison
from picolm.report.page import write_run_report
from picolm.runs.captures import metrics_path
from picolm.runs.directory import RunDirectory
from picolm.runs.tables import Measured, read_metrics, write_metrics

MakeRun = Callable[..., RunDirectory]
Browser = Callable[..., Any]
STEPS = (0, 1, 2, 4)


def measured_run(make_run: MakeRun, name: str, shift: float = 0.0) -> RunDirectory:
    run = make_run(name)
    for step in STEPS:
        rows = [
            Measured(step, "effective_rank", f"layers.{layer}.{kind}", layer, None, None, 10 * layer + step + shift)
            for layer in range(3)
            for kind in ("attention.o_proj", "mlp.up_proj", "mlp.down_proj", "attention.q_proj")
        ]
        write_metrics(metrics_path(run.path, step), rows)
    return run


@pytest.mark.parametrize("options", [(), ("--force-dark-mode",)], ids=["light", "dark"])
def test_heat_map_on_the_page_shows_the_table(make_run: MakeRun, browser: Browser, options: tuple[str, ...]) -> None:
    run = measured_run(make_run, "one")
    script = """
      const select = inside.querySelector("#figure-metric-0 select");
      select.value = "1"; select.dispatchEvent(new Event("change")); await settle();
      const {x, y, z} = inside.querySelector("#figure-metric-0 .plot").data[0];
      return {x, y, z, label: select.selectedOptions[0].label, options: select.length, theme: theme()};
      function theme() { return window.getComputedStyle(inside.body).backgroundColor; }
    """
    shown = browser(write_run_report(run), script, options=options)
    assert (shown["options"], shown["label"]) == (4, "layers.*.mlp.up_proj")
    assert shown["theme"] == ("rgb(20, 23, 28)" if options else "rgb(255, 255, 255)")
    table = read_metrics(run.path / "metrics").to_pylist()
    expected = {(r["step"], r["layer"]): r["value"] for r in table if r["site"].endswith("up_proj")}
    cells = {(step, layer): shown["z"][j][i] for i, step in enumerate(STEPS) for j, layer in enumerate(range(3))}
    assert cells == expected


def test_picker_hides_and_shows_a_run_in_every_plot(make_run: MakeRun, browser: Browser, tmp_path: Path) -> None:
    runs = [measured_run(make_run, "one"), measured_run(make_run, "two", shift=100.0)]
    script = """
      const curves = plots().filter((plot) => plot.data[0].type === "scatter");
      const names = () => curves.map((plot) => plot.data.map((trace) => trace.name));
      const boxes = inside.querySelectorAll("#picker input"), before = names();
      boxes[0].click(); await settle(); const without = names();
      boxes[0].click(); await settle();
      const metric = inside.querySelector("#figure-metric-0 .plot").data.map((trace) => trace.y);
      return {boxes: boxes.length, before, without, after: names(), metric};
    """
    shown = browser(write_comparison(runs, tmp_path / "both.html"), script)
    assert shown["boxes"] == 2
    assert all(names == ["one", "two"] for names in shown["before"])
    assert all(names == ["two"] for names in shown["without"])
    assert shown["after"] == shown["before"]
    # The mean over layers 0, 1, 2 of 10 layer + step.
    assert shown["metric"] == [[10.0 + step for step in STEPS], [110.0 + step for step in STEPS]]


def test_maps_of_the_chosen_runs_stand_side_by_side(make_run: MakeRun, browser: Browser, tmp_path: Path) -> None:
    shifts = (0.0, 100.0, 7.0)
    runs = [measured_run(make_run, f"run{place}", shift) for place, shift in enumerate(shifts)]
    script = """
      const plot = inside.querySelector("#figure-map-0 .plot");
      const boxes = inside.querySelectorAll("#picker input"), states = [];
      const look = () => states.push(plot.data.map(({z, zmin, zmax, xaxis}, place) => ({
        z, scale: [zmin, zmax], bar: plot.data[place].showscale, title: plot.layout.annotations[place].text,
        from: plot.layout[xaxis.replace("x", "xaxis")].domain[0],
        layers: plot.layout[plot.data[place].yaxis.replace("y", "yaxis")].domain,
      })));
      look();
      for (const place of [1, 0, 1]) { boxes[place].click(); await settle(); look(); }
      return states;
    """
    page = write_comparison(runs, tmp_path / "three.html")
    everything, without_second, last, others = browser(page, script)
    tables = [read_metrics(run.path / "metrics").to_pylist() for run in runs]
    expected = []
    for table in tables:
        of = {(row["layer"], row["step"]): row["value"] for row in table if row["site"].endswith("o_proj")}
        expected.append([[of[layer, step] for step in STEPS] for layer in range(3)])
    assert [panel["z"] for panel in everything] == expected
    assert [panel["title"] for panel in everything] == ["run0", "run1", "run2"]
    assert {tuple(panel["scale"]) for panel in everything} == {(0.0, 124.0)}, "from the least to the most of all runs"
    assert [panel["bar"] for panel in everything] == [True, False, False]
    assert len({tuple(panel["layers"]) for panel in everything}) == 1, "layers stand at one height"
    assert len({panel["from"] for panel in everything}) == 3
    # Two are left: what they differ in stands beside them.
    assert [panel["title"] for panel in without_second] == ["run0", "run2", "run2 \u2212 run0"]
    assert without_second[2]["z"] == [[7.0] * len(STEPS)] * 3
    assert [panel["bar"] for panel in without_second] == [True, False, True]
    assert [panel["title"] for panel in last] == ["run2"]
    assert [panel["title"] for panel in others] == ["run1", "run2", "run2 \u2212 run1"]
    assert others[2]["z"] == [[-93.0] * len(STEPS)] * 3


def test_list_of_sites_changes_the_maps_of_all_runs(make_run: MakeRun, browser: Browser, tmp_path: Path) -> None:
    runs = [measured_run(make_run, "one"), measured_run(make_run, "two", shift=0.5)]
    for run in runs:
        rows = [
            Measured(step, "effective_rank", f"layers.{n}.ov", n, None, None, -step - n)
            for n in (0, 1)
            for step in (8, 9)
        ]
        write_metrics(metrics_path(run.path, 9), rows)
    script = """
      const select = inside.querySelector("#figure-map-0 select");
      select.value = "4"; select.dispatchEvent(new Event("change")); await settle();
      const {data} = inside.querySelector("#figure-map-0 .plot");
      return [select.selectedOptions[0].label, data.map(({z}) => z)];
    """
    label, maps = browser(write_comparison(runs, tmp_path / "both.html"), script)
    own = [[-8.0, -9.0], [-9.0, -10.0]]
    assert label == "layers.*.ov"
    assert maps == [own, own, [[0.0, 0.0], [0.0, 0.0]]]


def test_no_run_chosen_leaves_empty_plots(make_run: MakeRun, browser: Browser, tmp_path: Path) -> None:
    runs = [measured_run(make_run, "one"), measured_run(make_run, "two")]
    script = """
      inside.querySelectorAll("#picker input").forEach((box) => box.click()); await settle();
      return plots().map((plot) => plot.data.length);
    """
    assert set(browser(write_comparison(runs, tmp_path / "both.html"), script)) == {0}


def test_on_paper_the_picker_is_a_legend_and_colours_are_light(
    make_run: MakeRun, browser: Browser, tmp_path: Path
) -> None:
    runs = [measured_run(make_run, "one"), measured_run(make_run, "two")]
    script = """
      window.dispatchEvent(new Event("beforeprint")); await settle();
      const wide = plots().map((plot) => plot.querySelector(".main-svg").getBoundingClientRect().width);
      const rules = [...inside.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
      const hidden = rules.filter((rule) => rule.conditionText === "print").flatMap((rule) => [...rule.cssRules])
        .filter((rule) => rule.style?.display === "none").map((rule) => rule.selectorText).join(" ");
      const ground = window.getComputedStyle(inside.body).backgroundColor;
      window.dispatchEvent(new Event("afterprint"));
      return {wide, hidden, ground};
    """
    shown = browser(write_comparison(runs, tmp_path / "both.html"), script, options=("--force-dark-mode",))
    assert shown["ground"] == "rgb(255, 255, 255)"
    assert max(shown["wide"]) <= 670, "A4 within its margins"
    assert "#picker input" in shown["hidden"] and "#theme" in shown["hidden"]


@pytest.mark.parametrize("width", [400, 1200])
def test_page_is_never_wider_than_its_window(make_run: MakeRun, browser: Browser, tmp_path: Path, width: int) -> None:
    runs = [measured_run(make_run, "one"), measured_run(make_run, "two")]
    script = "return [inside.documentElement.scrollWidth, inside.documentElement.clientWidth];"
    for page in (write_run_report(runs[0]), write_comparison(runs, tmp_path / "both.html")):
        wide, window = browser(page, script, width=width)
        assert wide <= window
