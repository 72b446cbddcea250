"""Areas between curves: those of the trapezoid rule, over what all curves have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from picolm.errors import PicoLMError
from picolm.experiments.statistics.area import area_between
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.seeds import Dropped, Seed
from picolm.randomness import generator

STEPS = np.array([0.0, 10.0, 20.0, 40.0, 80.0])


def curves(key: str, seeds: int = 4, shift: float = 0.0) -> dict[Seed, Curve]:
    draws = generator(15, key).normal(0, 0.2, (seeds, len(STEPS)))
    return {seed: Curve.of(STEPS, 5 / (1 + STEPS / 10) + shift + row) for seed, row in enumerate(draws)}


def test_the_area_between_curves_is_that_of_the_trapezoid_rule() -> None:
    one, other = curves("area", shift=-0.3), curves("area of other")
    found = area_between(one, other)
    for seed, difference in found.differences.items():
        assert difference == pytest.approx(integrate.trapezoid(one[seed].y - other[seed].y, STEPS))
    assert found.estimate.value / 80 == pytest.approx(-0.3, abs=0.2)
    values = [np.trapezoid(one[seed].y - other[seed].y, STEPS) for seed in range(4)]
    assert found.estimate.p_value() == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


@given(st.floats(0.5, 39), st.floats(41, 80))
def test_between_points_the_area_is_that_under_straight_lines(start: float, end: float) -> None:
    given, flat = {1: curves("lines")[1]}, {1: Curve.of([0, 80], [1.0, 1.0])}
    expected = integrate.quad(lambda x: np.interp(x, STEPS, given[1].y) - 1, start, end, points=[10, 20, 40])[0]
    assert area_between(given, flat, start=start, end=end).estimate.value == pytest.approx(expected, abs=1e-6)


def test_a_run_that_diverged_on_the_way_is_left_out_by_name() -> None:
    given = curves("diverged", seeds=3)
    broken = given | {1: Curve.of(STEPS, [5, 4, 3, np.nan, np.inf])}
    assert area_between(given, broken).dropped == (Dropped(1, "baseline is nan"),)
    assert area_between(given, broken, end=20).dropped == ()


def test_areas_reach_over_what_all_curves_have() -> None:
    one = {1: Curve.of([0, 100], [2.0, 2.0]), 2: Curve.of([10, 60], [2.0, 2.0])}
    other = {seed: Curve.of([0, 50, 80], [1.0, 1.0, 1.0]) for seed in (1, 2)}
    assert dict(area_between(one, other).differences) == {1: 50.0, 2: 50.0}
    with pytest.raises(PicoLMError, match="start before its end, not 5 and 5"):
        area_between(one, other, start=5, end=5)
    with pytest.raises(PicoLMError, match="has no value from 5 to 60"):
        area_between(one, other, start=5)
