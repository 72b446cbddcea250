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
      const names = () => plots().map((plot) => plot.data.map((trace) => trace.name));
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


@pytest.mark.parametrize("width", [400, 1200])
def test_page_is_never_wider_than_its_window(make_run: MakeRun, browser: Browser, tmp_path: Path, width: int) -> None:
    runs = [measured_run(make_run, "one"), measured_run(make_run, "two")]
    script = "return [inside.documentElement.scrollWidth, inside.documentElement.clientWidth];"
    for page in (write_run_report(runs[0]), write_comparison(runs, tmp_path / "both.html")):
        wide, window = browser(page, script, width=width)
        assert wide <= window
