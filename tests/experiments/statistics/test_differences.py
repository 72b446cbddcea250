"""Paired differences: those of the paired t-test, named seeds, honest about one seed and about none that differs."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from picolm.errors import PicoLMError
from picolm.experiments.statistics.differences import hedges_correction, paired_difference
from picolm.experiments.statistics.noise import noise_floor
from picolm.experiments.statistics.seeds import Dropped
from picolm.randomness import generator

values = st.integers(-1000, 1000).map(lambda number: number / 100)
pairs = st.lists(st.tuples(values, values), min_size=3, max_size=9)


def arms(rows: list[tuple[float, float]]) -> tuple[dict[int | str, float], dict[int | str, float]]:
    return {seed: row[0] for seed, row in enumerate(rows)}, {seed: row[1] for seed, row in enumerate(rows)}


def test_the_interval_and_the_p_value_are_those_of_the_paired_t_test() -> None:
    drawn = generator(2, "pairs").normal(size=(2, 6))
    treatment, baseline = (dict(enumerate(row)) for row in drawn)
    found = paired_difference(treatment, baseline).estimate
    expected = stats.ttest_rel(*drawn)
    interval = found.interval(0.1)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval(0.9)))
    assert found.p_value() == pytest.approx(expected.pvalue)
    assert found.p_above(0.2) == pytest.approx(
        stats.ttest_1samp(drawn[0] - drawn[1], 0.2, alternative="greater").pvalue
    )


@given(pairs)
def test_swapping_arms_turns_the_sign_and_nothing_else(rows: list[tuple[float, float]]) -> None:
    treatment, baseline = arms(rows)
    one, other = paired_difference(treatment, baseline), paired_difference(baseline, treatment)
    assert other.estimate == one.estimate.mirrored()
    assert other.estimate.p_value() == one.estimate.p_value()


@given(pairs, values, st.sampled_from([0.5, 2.0, 8.0]))
def test_a_shift_of_both_arms_changes_nothing_and_a_change_of_units_scales(
    rows: list[tuple[float, float]], shift: float, scale: float
) -> None:
    one = paired_difference(*arms(rows))
    assume(one.estimate.seed_error)
    moved = paired_difference(*arms([((a + shift) * scale, (b + shift) * scale) for a, b in rows]))
    assert moved.estimate.value == pytest.approx(one.estimate.value * scale, abs=1e-9)
    assert moved.estimate.seed_error == pytest.approx(one.estimate.seed_error * scale, abs=1e-9)
    assert moved.hedges_gz == pytest.approx(one.hedges_gz, abs=1e-9)


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_seeds_is_of_no_account(rows: list[tuple[float, float]], random: object) -> None:
    treatment, baseline = arms(rows)
    shuffled = list(treatment)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = paired_difference(treatment, baseline).estimate
    other = paired_difference({seed: treatment[seed] for seed in shuffled}, baseline).estimate
    assert other.value == pytest.approx(one.value, abs=1e-12)
    assert other.seed_error == pytest.approx(one.seed_error, abs=1e-12)


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_the_interval_covers_as_often_as_it_says_and_an_a_a_comparison_is_seldom_significant(seeds: int) -> None:
    rng = generator(3, "coverage", seeds)
    shared, own = rng.normal(0, 1, (4000, seeds)), rng.normal(0, 0.3, (2, 4000, seeds))
    covered, significant = [], []
    for run in range(4000):
        baseline = dict(enumerate(shared[run] + own[0, run]))
        estimate = paired_difference(dict(enumerate(shared[run] + own[1, run])), baseline).estimate
        interval, p = estimate.interval(), estimate.p_value()
        assert interval is not None and p is not None
        covered.append(interval.low <= 0 <= interval.high)
        significant.append(p <= 0.05)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)
    assert np.mean(significant) == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize("seeds", [3, 4, 8, 20])
def test_the_standardised_effect_is_right_on_average(seeds: int) -> None:
    draws = generator(4, "hedges", seeds).normal(0.7, 1.0, (200_000, seeds))
    raw = draws.mean(axis=1) / draws.std(axis=1, ddof=1)
    # With three seeds it has no variance: a tolerance for a heavy tail.
    assert (raw * hedges_correction(seeds - 1)).mean() == pytest.approx(0.7, abs=0.05 if seeds == 3 else 0.01)
    found = paired_difference(dict(enumerate(draws[0])), dict.fromkeys(range(seeds), 0.0))
    assert found.hedges_gz == pytest.approx(raw[0] * hedges_correction(seeds - 1))


def test_hedges_correction_is_about_its_well_known_approximation() -> None:
    for df in (5, 10, 50):
        assert hedges_correction(df) == pytest.approx(1 - 3 / (4 * df - 1), abs=2e-3)


def test_the_effect_is_told_in_units_of_the_noise_floor() -> None:
    noise = noise_floor({1: 2.0, 2: 2.2, 3: 2.4})
    found = paired_difference({1: 1.8, 2: 2.0, 3: 2.1}, {1: 2.0, 2: 2.2, 3: 2.4}, noise=noise)
    assert found.in_noise_sds == pytest.approx(-(0.2 + 0.2 + 0.3) / 3 / 0.2)


def test_seeds_without_a_pair_or_without_a_number_are_named() -> None:
    found = paired_difference(
        {1: 1.0, 2: math.nan, 3: 2.0, 5: 1.0, 6: math.inf}, {1: 0.5, 2: 1.0, 3: 1.0, 4: 1.0, 6: -math.inf}
    )
    assert dict(found.differences) == {1: 0.5, 3: 1.0}
    assert found.dropped == (
        Dropped(2, "treatment is nan"),
        Dropped(5, "baseline is missing"),
        Dropped(6, "treatment is inf and baseline is -inf"),
        Dropped(4, "treatment is missing"),
    )


def test_no_pair_is_refused_with_its_reasons() -> None:
    with pytest.raises(
        PicoLMError, match="no seed has a finite value of treatment and baseline; seed 1: baseline is missing"
    ):
        paired_difference({1: 1.0}, {2: 1.0})


def test_one_pair_has_a_difference_and_no_more() -> None:
    found = paired_difference({1: 1.0}, {1: 0.25})
    assert found.estimate.value == 0.75 and found.estimate.seeds == 1
    assert found.estimate.interval() is None and found.hedges_gz is None


def test_differences_that_are_equal_but_for_rounding_have_no_spread() -> None:
    found = paired_difference({1: 0.3, 2: 2.3, 3: 10.3}, {1: 0.2, 2: 2.2, 3: 10.2})
    assert len(set(found.differences.values())) > 1
    assert found.estimate.seed_error == 0.0 and found.estimate.p_value() == 0.0 and found.hedges_gz is None
    assert paired_difference({1: 2.0, 2: 3.0}, {1: 2.0, 2: 3.0}).estimate.p_value() == 1.0
