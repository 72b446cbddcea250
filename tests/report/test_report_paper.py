"""Figures for papers."""

import re
import struct
from pathlib import Path

import pytest

from picolm.errors import PicoLMError
from picolm.report.dots import Dots, dot_axes, shift
from picolm.report.figures import STEPS, Figure, Trace, View
from picolm.report.heatmap import HeatMap
from picolm.report.panels import side_by_side
from picolm.report.paper import write_figures
from picolm.report.series import Series

AXIS = {"title": {"text": "loss &amp; more, $x$"}}


def curve_figure(name: str = "train $1_2$") -> Figure:
    traces = [Trace(name, Series([0, 1, 10], [3.0, None, 1.0]), "series-1"), Trace("b", Series([1], [2.0]), "series-2")]
    return Figure("loss", "Loss", [View("Linear", traces, AXIS, STEPS), View("Log", traces, AXIS, {"type": "log"})])


def map_figure() -> Figure:
    drawn = HeatMap("effective_rank", ["0", "1"], ["0", "1"], [[1.0, 2.0], [None, 4000.0]])
    across, up = drawn.axes
    return Figure("metric-0", "effective_rank", [View("layers.*.mlp", [drawn], up, across)])


def test_each_view_is_a_png_and_an_svg_of_one_column(tmp_path: Path) -> None:
    paths = write_figures([curve_figure(), map_figure()], tmp_path / "figures")
    assert [path.name for path in paths] == [
        *("loss-linear.png", "loss-linear.svg", "loss-log.png", "loss-log.svg"),
        *("effective_rank-layers-mlp.png", "effective_rank-layers-mlp.svg"),
    ]
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".png":
            assert struct.unpack(">I", content[16:20])[0] == 990, "3.3 inches of 300 dots"
        else:
            # 72 points are an inch.
            assert re.search(rb'<svg [^>]*width="237\.6pt"', content)


def test_texts_stand_as_they_are(tmp_path: Path) -> None:
    write_figures([curve_figure()], tmp_path)
    drawn = (tmp_path / "loss-linear.svg").read_text()
    assert ">train $1_2$</text>" in drawn
    assert ">loss &amp; more, $x$</text>" in drawn
    assert "#0072b2" in drawn
    assert "#d55e00" in drawn


def test_the_same_figure_gives_the_same_file(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_figures([curve_figure(), map_figure()], tmp_path / "a")]
    again = [path.read_bytes() for path in write_figures([curve_figure(), map_figure()], tmp_path / "b")]
    assert first == again


def test_figures_are_replaced_but_no_other_file(tmp_path: Path) -> None:
    write_figures([curve_figure()], tmp_path)
    write_figures([curve_figure()], tmp_path)
    (tmp_path / "loss-log.svg").write_text("<svg>mine</svg>")
    before = (tmp_path / "loss-linear.png").read_bytes()
    with pytest.raises(PicoLMError, match=r"loss-log\.svg is there, and PicoLM has not made it"):
        write_figures([curve_figure("another")], tmp_path)
    assert (tmp_path / "loss-linear.png").read_bytes() == before, "nothing is written when something stands in the way"


def test_names_that_would_be_the_same_file_are_numbered(tmp_path: Path) -> None:
    view = curve_figure().views[0]
    figure = Figure("metric-0", "cka", [View("a.b", view.traces, AXIS, STEPS), View("a/b", view.traces, AXIS, STEPS)])
    names = [path.name for path in write_figures([figure], tmp_path)]
    assert names == ["cka-a-b.png", "cka-a-b.svg", "cka-a-b-2.png", "cka-a-b-2.svg"]


def map_view(n_runs: int) -> View:
    maps = [
        HeatMap("k", ["0", "1"], ["0"], [[float(run), 1.0 + run]], title=f"run{run}", runs=(run,))
        for run in range(n_runs)
    ]
    drawn = side_by_side(maps)
    across, up = drawn[0].axes
    return View("o_proj", drawn, up, across)


@pytest.mark.parametrize(("n_runs", "titles"), [(2, 3), (3, 3), (5, 5)])
def test_maps_of_several_runs_share_a_sheet(tmp_path: Path, n_runs: int, titles: int) -> None:
    write_figures([Figure("map-0", "k, layer by step", [map_view(n_runs)])], tmp_path)
    drawn = (tmp_path / "k-o_proj.svg").read_text()
    assert [f">run{run}</text>" in drawn for run in range(n_runs)] == [True] * n_runs
    assert drawn.count(">run") == titles, "what two runs differ in is there where there are two"
    assert re.search(r'<svg [^>]*width="496\.8pt"', drawn), "both columns: 6.9 inches"


def test_dots_stand_in_rows_from_the_top(tmp_path: Path) -> None:
    names = ["binding", "control & raising"]
    dots = [Dots("a", names, [60.0, None], [1.0, None], 0, shift(0, 1), "series-1")]
    across, up = dot_axes("accuracy (%)", names)
    write_figures([Figure("evaluation-0", "blimp", [View("by term", dots, up, across)])], tmp_path)
    drawn = (tmp_path / "blimp.svg").read_text()
    heights = [
        float(found[1])
        for name in ("binding", "control &amp; raising")
        for found in [re.search(rf'<text [^>]* y="([0-9.]+)"[^>]*>{name}</text>', drawn)]
        if found
    ]
    assert len(heights) == 2
    assert heights[0] < heights[1]
