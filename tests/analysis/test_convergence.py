"""When a curve has converged: analytic curves, what lies between measurements, and what is never reached."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from picolm.analysis.convergence import (
    Crossing,
    first_reached,
    mean_shortfall,
    settled_above,
    settled_within,
    share_reached,
)
from picolm.errors import PicoLMError


@pytest.mark.parametrize("interval", [1, 50, 500])
def test_t90_of_an_exponential_decay_is_tau_ln_10_within_one_interval(interval: int) -> None:
    tau = 700.0
    steps = np.arange(0, 20_001, interval)
    found = share_reached(steps, 2 + 5 * np.exp(-steps / tau))
    truth = tau * math.log(10)
    assert found.after < truth <= found.by == found.after + interval
    assert found.after <= found.step <= found.by
    # The straight line between two measurements is off by the curve's bend alone.
    assert found.step == pytest.approx(truth, abs=0.2 * interval * min(1.0, interval / tau) + 0.01)


def test_t90_rises_as_it_falls() -> None:
    steps = np.arange(0, 101, 10)
    falling, rising = share_reached(steps, 100 - steps), share_reached(steps, steps)
    assert falling == rising == Crossing(90.0, 80.0, 90.0)
    assert share_reached(steps, steps, share=0.45) == Crossing(45.0, 40.0, 50.0)
    assert share_reached(steps, steps, share=1.0).by == 100.0
    assert share_reached(steps, np.full(11, 3.0)) == Crossing(0.0, -np.inf, 0.0)


def test_a_level_that_is_never_reached_is_censored() -> None:
    for found in (
        first_reached([0, 10, 20], [5.0, 3.0, 2.0], level=1.0),
        settled_above([0, 10, 20], [0.1, 0.95, 0.8], level=0.9),
        settled_within([0, 10, 20], [5.0, 3.0, 2.0], band=0.5, final=1.0),
    ):
        assert not found.reached and math.isnan(found.step)
        assert (found.after, found.by) == (20.0, math.inf)


def test_first_reached_and_settled_differ_on_a_curve_that_turns_back() -> None:
    steps, values = [0, 10, 20, 30, 40], [0.0, 1.0, 0.5, 0.8, 1.0]
    assert first_reached(steps, values, level=0.7) == Crossing(7.0, 0.0, 10.0)
    found = settled_above(steps, values, level=0.7)
    assert (found.after, found.by) == (20.0, 30.0) and found.step == pytest.approx(20 + 10 * 2 / 3)
    assert first_reached(steps, values, level=0.0) == Crossing(0.0, -np.inf, 0.0)
    assert settled_above(steps, values, level=-1.0) == Crossing(0.0, -np.inf, 0.0)


def test_a_curve_enters_its_band_at_the_edge_it_comes_from() -> None:
    # From 5 down to -0.1, beyond the middle: it passes the upper edge 0.5 after 4.5 of 5.1.
    found = settled_within([0, 10, 20], [5.0, -0.1, 0.0], band=0.5)
    assert (found.after, found.by) == (0.0, 10.0) and found.step == pytest.approx(10 * 4.5 / 5.1)
    from_below = settled_within([0, 10, 20], [-5.0, 0.1, 0.0], band=0.5)
    assert from_below.step == pytest.approx(found.step)


def test_the_band_is_around_the_last_value_or_a_given_one() -> None:
    steps, values = [0, 1, 2, 3, 4], [8.0, 4.0, 2.0, 1.0, 0.5]
    assert settled_within(steps, values, band=1.5).by == 2.0
    assert settled_within(steps, values, band=1.0, final=0.0).by == 3.0
    assert settled_within(steps, values, band=0.0) == Crossing(4.0, 3.0, 4.0)
    assert settled_within([3], [1.0], band=0.0) == Crossing(3.0, -np.inf, 3.0)


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.floats(0, 4), st.floats(-5, 5)
)  # fmt: skip
@example([0.0, 3.6508653977695698], 0.0, 0.0)
def test_answers_hold_at_the_measurements_that_they_name(values: list[float], band: float, level: float) -> None:
    steps = np.arange(len(values)) * 10.0
    y = np.array(values)
    inside, above = np.abs(y - y[-1]) <= band, y >= level
    for found, true in ((settled_within(steps, y, band=band), inside), (settled_above(steps, y, level=level), above)):
        if not found.reached:
            assert not true[-1]
            continue
        assert true[steps >= found.by].all()
        assert found.after == -np.inf or not true[steps == found.after].any()
        assert found.step == found.by if found.after == -np.inf else found.after <= found.step <= found.by


def test_the_area_above_a_curve() -> None:
    assert mean_shortfall([0, 100], [0.0, 1.0]) == pytest.approx(0.5)
    assert mean_shortfall([0, 10, 100], [0.0, 1.0, 1.0]) == pytest.approx(0.05)
    assert mean_shortfall([0, 1, 4], [1.0, 1.0, 1.0]) == 0.0
    assert mean_shortfall([0, 1], [3.0, 3.0], level=2.0) == -1.0


def test_errors_say_what_is_needed() -> None:
    for steps, values, says in [
        ([0, 1], [1.0], "as many values"),
        ([], [], "one or more"),
        ([[0, 1]], [[1.0, 2.0]], "as many values"),
        ([0, 0], [1.0, 2.0], "ascend"),
        ([1, 0], [1.0, 2.0], "ascend"),
        ([0, 1], [1.0, math.nan], "finite"),
    ]:
        for function in (
            lambda x, y: first_reached(x, y, level=0),
            lambda x, y: settled_above(x, y, level=0),
            lambda x, y: settled_within(x, y, band=0),
            share_reached,
            mean_shortfall,
        ):
            with pytest.raises(PicoLMError, match=says):
                function(steps, values)
    with pytest.raises(PicoLMError, match="band"):
        settled_within([0], [1.0], band=-1)
    for share in (0.0, 1.5):
        with pytest.raises(PicoLMError, match="share"):
            share_reached([0], [1.0], share=share)
    with pytest.raises(PicoLMError, match="two points"):
        mean_shortfall([0], [1.0])
