import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picolm.report.series import Series, number, spread

values = st.lists(st.none() | st.floats(-1e6, 1e6), max_size=300)


def series(points: list[float | None]) -> Series:
    return Series(list(range(len(points))), points)


@pytest.mark.parametrize("value", [math.nan, math.inf, "1", None, True, [1.0]])
def test_what_is_no_finite_number_is_none(value: object) -> None:
    assert number(value) is None
    assert number(3) == 3.0


def test_values_are_found_under_nested_keys_and_gaps_are_kept() -> None:
    lines = [
        {"step": 1, "domains": {"a": {"loss": 2.0}}},
        {"step": 2, "domains": {"b": {"loss": 3.0}}},
        {"step": 3, "domains": "none"},
        {"step": 4, "domains": {"a": {"loss": math.nan}}},
    ]
    assert Series.of(lines, "domains", "a", "loss") == Series([1, 4], [2.0, None])


@settings(deadline=None)
@given(points=values, most=st.integers(3, 60))
def test_thinning_keeps_extremes_and_order(points: list[float | None], most: int) -> None:
    whole = series(points)
    thin = whole.thinned(most)
    assert len(thin.steps) <= max(most, 3)
    assert thin.steps == sorted(set(thin.steps))
    assert all(points[step] == value for step, value in zip(thin.steps, thin.values, strict=True))
    if whole.finite:
        assert (min(thin.finite), max(thin.finite)) == (min(whole.finite), max(whole.finite))
    assert (None in thin.values) == (None in points)


def test_short_series_are_not_thinned() -> None:
    short = series([1.0, None, 2.0])
    assert short.thinned(3) is short


@settings(deadline=None)
@given(start=st.floats(-5, 5), slope=st.floats(-5, 5), length=st.integers(1, 80), half_width=st.integers(1, 20))
def test_smoothing_does_not_lag_behind_a_slope(start: float, slope: float, length: int, half_width: int) -> None:
    line = [start + slope * i for i in range(length)]
    smooth = series(line).smoothed(half_width).values
    inner = max(length - half_width, 1)
    assert smooth[:inner] == pytest.approx(line[:inner], abs=1e-9)


def test_smoothing_averages_over_gaps() -> None:
    assert series([1.0, None, 3.0, 5.0]).smoothed(1).values == [1.0, None, 4.0, 4.0]


@pytest.mark.parametrize(("n", "most"), [(1, 3), (3, 3), (10, 3), (100, 8)])
def test_spread_keeps_the_ends(n: int, most: int) -> None:
    chosen = spread(range(n), most)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(n, most)
    assert {chosen[0], chosen[-1]} == {0, n - 1}
