"""Representations of several runs in the same figures."""

import pytest

from picolm.report.figures import Figure, Trace, View
from picolm.report.heatmap import HeatMap
from picolm.report.insides import Compared, Insides, Kinship, Likeness, Picture, Spectra
from picolm.report.representations import inside_figures

NAMES = ("a", "b")


def insides(shift: float, steps: list[int]) -> Insides:
    likeness = Likeness("residual.0", "p", steps, [[1.0 - shift] * len(steps)] * len(steps))
    spectra = Spectra("layers.0.mlp.down_proj", steps, [[3.0 + shift + step, 0.0] for step in steps])
    picture = Picture(0, 1, "p", steps[-1], ["0 x", "1 y"], ["0 x", "1 y"], [[1.0, 0.0], [0.5 - shift, 0.5 + shift]])
    return Insides([likeness], [spectra], [picture])


@pytest.fixture
def shown() -> dict[str, Figure]:
    kinship = Kinship("residual.0", "p", (0, 1), [1, 4], [0.25, 0.75])
    compared = Compared([insides(0.0, [1, 2, 4]), insides(0.1, [1, 4, 8])], [kinship])
    return {figure.key: figure for figure in inside_figures(compared, NAMES)}


def maps(view: View) -> list[HeatMap]:
    return [trace for trace in view.traces if isinstance(trace, HeatMap)]


def curves(view: View) -> dict[str, list[float | None]]:
    return {trace.name: trace.series.values for trace in view.traces if isinstance(trace, Trace)}


def test_likeness_of_each_run_stands_beside_the_others(shown: dict[str, Figure]) -> None:
    first, second, changed = maps(shown["inside-cka"].views[0])
    assert [first.title, second.title] == list(NAMES)
    assert first.bounds == second.bounds == (0.0, 1.0)
    assert changed.columns == changed.rows == ["1", "4"], "the steps that both have"
    assert all(value == pytest.approx(-0.1) for row in changed.values for value in row)


def test_likeness_of_runs_is_a_curve_that_belongs_to_both(shown: dict[str, Figure]) -> None:
    (view,) = shown["inside-between"].views
    assert curves(view) == {"a and b": [0.25, 0.75]}
    assert view.traces[0].as_plotly()["runs"] == [0, 1]


def test_spectra_lie_over_each_other_at_each_common_step(shown: dict[str, Figure]) -> None:
    views = {view.label.rpartition(", ")[2]: view for view in shown["inside-spectra"].views}
    assert list(views) == ["last step of each", "step 4", "step 1"]
    # A logarithmic axis has no place for 0.
    assert curves(views["step 4"]) == {"a": [7.0, None], "b": [pytest.approx(7.1), None]}
    assert curves(views["last step of each"]) == {"a, step 4": [7.0, None], "b, step 8": [pytest.approx(11.1), None]}


def test_attention_of_the_same_head_has_one_scale_and_no_difference(shown: dict[str, Figure]) -> None:
    (view,) = shown["inside-attention"].views
    first, second = maps(view)
    assert first.bounds == second.bounds
    assert not first.alone
    assert view.label == "layer 0, head 1, p, last captured step of each"


def test_of_one_run_no_name_is_shown() -> None:
    figures = inside_figures(Compared([insides(0.0, [1, 2])]), ["a"])
    assert [figure.key for figure in figures] == ["inside-cka", "inside-spectra", "inside-attention"]
    (cka,) = maps(figures[0].views[0])
    assert (cka.title, cka.runs) == ("", ())
    assert list(curves(figures[1].views[0])) == ["step 1", "step 2"]


def test_where_nothing_was_computed_there_is_no_figure() -> None:
    assert inside_figures(Compared(), NAMES) == []
