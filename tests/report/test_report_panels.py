"""Heat maps of several runs: one scale of colours, and what two of them differ in."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.report.heatmap import HeatMap
from picolm.report.overlay import pairs
from picolm.report.panels import difference, side_by_side

Cells = dict[tuple[str, str], float | None]


def drawn(cells: Cells, run: int, *, diverging: bool = False) -> HeatMap:
    rows, columns = sorted({row for row, _ in cells}), sorted({column for _, column in cells})
    values = [[cells.get((row, column)) for column in columns] for row in rows]
    return HeatMap("k", columns, rows, values, diverging=diverging, title=f"run{run}", runs=(run,))


def cells_of(one: HeatMap) -> Cells:
    return {
        (row, column): value
        for row, line in zip(one.rows, one.values, strict=True)
        for column, value in zip(one.columns, line, strict=True)
    }


grids = st.dictionaries(
    st.tuples(st.sampled_from("012"), st.sampled_from("abcd")), st.floats(-1e6, 1e6) | st.none(), min_size=1
)


@given(first=grids, second=grids)
def test_difference_is_that_of_the_cells_that_both_have(first: Cells, second: Cells) -> None:
    found = difference(drawn(first, 0, diverging=True), drawn(second, 1, diverging=True))
    expected = {place: b - a for place, a in first.items() if a is not None and (b := second.get(place)) is not None}
    if found is None:
        assert expected == {}
        return
    assert {place: value for place, value in cells_of(found).items() if value is not None} == expected
    assert found.bounds == (-found.bounds[1], found.bounds[1]), "0 is the middle of the colours"
    assert (found.runs, found.alone) == ((0, 1), True)


def test_colours_mean_the_same_in_all_runs() -> None:
    maps = [drawn({("0", "a"): 2.0, ("1", "a"): 3.0}, 0), drawn({("0", "a"): 7.0, ("1", "a"): None}, 1)]
    first, second, changed = side_by_side(maps)
    assert first.bounds == second.bounds == (2.0, 7.0)
    assert (changed.title, cells_of(changed)["0", "a"]) == ("run1 \u2212 run0", 5.0)


def test_decades_of_all_runs_together_make_colours_logarithmic_and_differences_ratios() -> None:
    maps = [drawn({("0", "a"): 1.0, ("0", "b"): 10.0}, 0), drawn({("0", "a"): 2.0, ("0", "b"): 5000.0}, 1)]
    assert not any(one.logarithmic for one in maps[:1])
    first, second, ratio = side_by_side(maps)
    assert first.logarithmic
    assert second.logarithmic
    assert first.bounds == (1.0, 5000.0)
    assert (ratio.name, ratio.title, cells_of(ratio)) == ("ratio", "run1 / run0", {("0", "a"): 2.0, ("0", "b"): 500.0})
    low, high = ratio.bounds
    assert high == pytest.approx(500.0)
    assert low * high == pytest.approx(1.0), "half is as far from 1 as double"
    shown = ratio.as_plotly()
    assert shown["z"] == [[pytest.approx(math.log10(2)), pytest.approx(math.log10(500))]]
    assert shown["customdata"] == [[2.0, 500.0]]
    assert shown["colorbar"]["ticktext"] == ["0.002", "1", "500"]


def test_a_map_alone_stays_as_it_is() -> None:
    one = drawn({("0", "a"): 2.0}, 0)
    assert side_by_side([one]) == [one]


def test_each_is_compared_with_each_up_to_four_and_with_the_first_beyond() -> None:
    assert pairs(2) == [(0, 1)]
    assert pairs(4) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert pairs(6) == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]
