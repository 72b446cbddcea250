import math

import numpy as np
import pytest

from picolm.evaluation.statistics import interval, mean_of, resampled, share_of, wilson


def test_the_error_of_a_share_without_ties_is_the_binomial_one() -> None:
    outcomes = np.array([1.0] * 700 + [0.0] * 300)
    found = share_of(outcomes)
    assert (found.value, found.n) == (0.7, 1000)
    assert found.se == pytest.approx(math.sqrt(0.7 * 0.3 / 999), rel=1e-12)
    assert share_of(np.array([1.0])).se is None


def test_the_bootstrap_agrees_with_the_binomial_error() -> None:
    outcomes = np.array([1.0] * 700 + [0.0] * 300)
    draws = resampled(outcomes, draws=40_000, seed=0, key="a")
    error = math.sqrt(0.7 * 0.3 / 1000)
    assert draws.std() == pytest.approx(error, rel=0.02)
    assert draws.mean() == pytest.approx(0.7, abs=5 * error / math.sqrt(40_000))
    assert interval(draws) == pytest.approx((0.7 - 1.96 * error, 0.7 + 1.96 * error), abs=0.002)


def test_the_bootstrap_resamples_items_with_their_ties() -> None:
    outcomes = np.array([1.0, 0.5, 0.5, 0.0, 1.0, 1.0])
    ours = resampled(outcomes, draws=200_000, seed=0, key="a")
    generator = np.random.default_rng(1)
    theirs = outcomes[generator.integers(0, 6, size=(200_000, 6))].mean(axis=1)
    for moment in (1, 2, 3):
        assert (ours**moment).mean() == pytest.approx((theirs**moment).mean(), rel=0.01)


def test_draws_are_keyed_by_group_and_seed() -> None:
    outcomes = np.array([1.0, 0.0] * 50)
    first = resampled(outcomes, draws=10, seed=0, key="a")
    np.testing.assert_array_equal(first, resampled(outcomes, draws=10, seed=0, key="a"))
    assert (first != resampled(outcomes, draws=10, seed=0, key="b")).any()
    assert (first != resampled(outcomes, draws=10, seed=1, key="a")).any()


def test_the_error_of_a_mean_over_groups_is_that_of_independent_groups() -> None:
    groups = [np.array([1.0] * 30 + [0.0] * 10), np.array([1.0] * 10 + [0.0] * 90)]
    found = mean_of([share_of(group) for group in groups])
    assert found.value == pytest.approx((0.75 + 0.1) / 2) and found.n == 140
    both = np.mean(
        [resampled(group, draws=40_000, seed=3, key=name) for name, group in zip("ab", groups, strict=True)], 0
    )
    assert found.se == pytest.approx(both.std(), rel=0.03)


def test_wilsons_interval_holds_the_probabilities_under_which_the_share_is_no_surprise() -> None:
    """Its ends are the p at which the share lies z standard errors of p away; at 0 and 1 hits they are closed forms."""
    z = 1.959963984540054
    for hits, n in ((1, 7), (5, 10), (37, 42), (15, 19), (630, 900)):
        for end in wilson(hits / n, n):
            assert abs(hits / n - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n))
    assert wilson(0.0, 10) == pytest.approx((0.0, z**2 / (10 + z**2)))
    assert wilson(1.0, 10) == pytest.approx((10 / (10 + z**2), 1.0))
    assert wilson(0.0, 10)[0] == 0.0 and wilson(1.0, 19)[1] == 1.0
