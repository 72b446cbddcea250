import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.evaluation.convergence import binned, step_at_share


@given(
    tau=st.floats(20.0, 500.0),
    every=st.integers(1, 20),
    begin=st.floats(0.5, 10.0),
    fall=st.floats(0.1, 5.0),
    rises=st.booleans(),
)
def test_an_exponential_decay_comes_near_its_end_at_tau_ln_10(
    tau: float, every: int, begin: float, fall: float, rises: bool
) -> None:
    """L_end + (L_0 - L_end) exp(-s / tau) reaches its level at -tau ln 0.1; the grid is fine against tau."""
    steps = np.arange(0, 12 * tau, every, dtype=np.float64)
    end = begin + fall if rises else begin - fall
    values = end + (begin - end) * np.exp(-steps / tau)
    found = step_at_share(steps, values, end=end)
    assert found is not None and abs(found - -tau * math.log(0.1)) < every
    # The last value is as good as the end after twelve times tau.
    assert step_at_share(steps, values) == pytest.approx(found, rel=1e-3)


def test_a_coarse_grid_says_no_more_than_its_distance() -> None:
    tau, end = 100.0, 0.0
    truth = -tau * math.log(0.1)
    for every in (1, 20, 500):
        steps = np.arange(0, 2001, every, dtype=np.float64)
        found = step_at_share(steps, np.exp(-steps / tau), end=end)
        assert found is not None and 0 <= found - truth < every, "a straight line lies above a curve that bends up"
    # Between two points it is a straight line, not the later of the two.
    assert step_at_share(np.array([0.0, 500.0]), np.array([1.0, 0.0])) == 450.0


def test_what_is_never_reached_is_censored() -> None:
    steps, values = np.arange(5.0), np.array([5.0, 4.5, 4.0, 3.9, 3.8])
    assert step_at_share(steps, values, end=2.0) is None
    assert step_at_share(steps, np.full(5, 3.0)) is None, "no way to go"
    assert step_at_share(steps, np.array([5.0, 4.0, 3.0, 2.0, np.nan])) is None
    assert step_at_share(np.array([0.0]), np.array([1.0])) is None


def test_the_first_crossing_counts_and_the_way_back_does_not() -> None:
    assert step_at_share(np.arange(4.0), np.array([10.0, 0.0, 9.0, 0.0])) == pytest.approx(0.9)
    assert step_at_share(np.arange(4.0), np.array([10.0, 12.0, 6.0, 0.0]), share=0.4) == pytest.approx(2.0)
    assert step_at_share(np.arange(3.0), np.array([2.0, 1.0, 0.0]), share=1.0) == 2.0


@given(losses=st.lists(st.floats(-100, 100), min_size=1, max_size=50), every=st.integers(1, 60))
def test_bins_are_means_at_the_middle_of_their_steps(losses: list[float], every: int) -> None:
    steps, means = binned(np.array(losses), every)
    for number, (step, mean) in enumerate(zip(steps, means, strict=True)):
        own = np.arange(len(losses))[number * every : (number + 1) * every]
        assert step == pytest.approx(own.mean()) and mean == pytest.approx(np.array(losses)[own].mean(), abs=1e-9)
    assert len(steps) == math.ceil(len(losses) / every)


def test_a_straight_line_stays_where_it_is_in_bins() -> None:
    steps, means = binned(np.arange(47.0), 10)
    np.testing.assert_allclose(means, steps)
