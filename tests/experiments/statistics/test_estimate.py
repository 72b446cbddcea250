"""Estimates: intervals and p-values are Student's, agree with each other, and with items cover as Banerjee proved."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from picolm.errors import PicoLMError
from picolm.experiments.statistics.estimate import Estimate


@pytest.mark.parametrize("seeds", [2, 3, 8, 30])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_the_interval_is_that_of_students_t(seeds: int, alpha: float) -> None:
    interval = Estimate(1.5, seeds, 0.4, seeds - 1).interval(alpha)
    assert interval is not None and interval.confidence == pytest.approx(1 - alpha)
    expected = stats.t.interval(1 - alpha, seeds - 1, loc=1.5, scale=0.4)
    assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-9)


@given(
    value=st.floats(-3, 3),
    item_error=st.sampled_from([0.0, 0.1, 1.0]),
    threshold=st.floats(-3, 3),
    tail=st.floats(1e-6, 0.4),
)
def test_an_end_of_the_interval_clears_a_threshold_just_when_the_p_value_is_below_its_tail(
    value: float, item_error: float, threshold: float, tail: float
) -> None:
    estimate = Estimate(value, 4, 0.3, 3, item_error, 49)
    interval = estimate.interval(tail_low=tail, tail_high=tail)
    above, below = estimate.p_above(threshold), estimate.p_below(threshold)
    assert interval is not None and above is not None and below is not None
    assert above + below == pytest.approx(1)
    if abs(interval.low - threshold) > 1e-7:
        assert (interval.low > threshold) == (above < tail)
    if abs(interval.high - threshold) > 1e-7:
        assert (interval.high < threshold) == (below < tail)


def test_two_errors_add_as_squares_each_at_its_own_degrees_of_freedom() -> None:
    estimate = Estimate(0.0, 3, 0.3, 2, 0.2, 99)
    expected = math.hypot(0.3 * stats.t.ppf(0.975, 2), 0.2 * stats.t.ppf(0.975, 99))
    assert estimate.half_width(0.025) == pytest.approx(expected)
    assert estimate.standard_error == pytest.approx(math.hypot(0.3, 0.2))


def test_one_seed_has_neither_interval_nor_p_value() -> None:
    estimate = Estimate(1.0, 1, None, None)
    assert estimate.interval() is None and estimate.p_value() is None and estimate.standard_error is None


def test_seeds_that_agree_to_the_digit_are_certain_unless_they_sit_on_the_null() -> None:
    estimate = Estimate(0.5, 3, 0.0, 2)
    interval = estimate.interval()
    assert interval is not None and (interval.low, interval.high) == (0.5, 0.5)
    assert (estimate.p_value(), estimate.p_value(0.5)) == (0.0, 1.0)
    assert (estimate.p_above(0.4), estimate.p_above(0.5), estimate.p_above(0.6)) == (0.0, 1.0, 1.0)
    assert (estimate.p_below(0.4), estimate.p_below(0.5), estimate.p_below(0.6)) == (1.0, 1.0, 0.0)


def test_extreme_distances_are_no_error() -> None:
    assert Estimate(1e30, 3, 1e-9, 2, 1e-9, 99).p_value() == pytest.approx(0.0, abs=1e-60)
    assert np.isfinite(Estimate(1e-300, 3, 1.0, 2, 1.0, 99).p_value() or np.nan)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
def test_what_is_no_error_rate_is_refused(alpha: float) -> None:
    with pytest.raises(PicoLMError, match="an error rate lies between 0 and 1"):
        Estimate(0.0, 3, 1.0, 2).interval(alpha)
