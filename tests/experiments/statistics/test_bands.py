"""Curves of several seeds: bands of Student's t at each place, diverged runs by name."""

import numpy as np
import pytest
from scipy import stats

from picolm.errors import PicoLMError
from picolm.experiments.statistics.bands import difference_band, mean_band
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.seeds import Dropped, Seed
from picolm.randomness import generator

STEPS = np.array([0.0, 10.0, 20.0, 40.0, 80.0])


def curves(key: str, seeds: int = 4, shift: float = 0.0) -> dict[Seed, Curve]:
    draws = generator(15, key).normal(0, 0.2, (seeds, len(STEPS)))
    return {seed: Curve.of(STEPS, 5 / (1 + STEPS / 10) + shift + row) for seed, row in enumerate(draws)}


def test_a_band_is_an_interval_of_students_t_at_each_place() -> None:
    given = curves("mean")
    band = mean_band(given, alpha=0.1)
    values = np.stack([curve.y for curve in given.values()])
    low, high = stats.t.interval(0.9, 3, loc=values.mean(axis=0), scale=stats.sem(values))
    assert band.x == pytest.approx(STEPS) and band.mean == pytest.approx(values.mean(axis=0))
    assert band.low == pytest.approx(low) and band.high == pytest.approx(high)


def test_the_band_of_a_difference_is_that_of_the_paired_t_test() -> None:
    one, other = curves("one", shift=-0.3), curves("other")
    band = difference_band(one, other)
    a, b = (np.stack([curve.y for curve in arm.values()]) for arm in (one, other))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert band.low == pytest.approx(expected.low) and band.high == pytest.approx(expected.high)
    swapped = difference_band(other, one)
    assert swapped.mean == pytest.approx(-band.mean) and swapped.low == pytest.approx(-expected.high)


def test_curves_meet_at_the_places_they_share_or_at_those_that_are_asked_for() -> None:
    given = {1: Curve.of([0, 10, 20], [0.0, 1.0, 2.0]), 2: Curve.of([0, 5, 20], [0.0, 1.0, 4.0])}
    assert mean_band(given).x.tolist() == [0.0, 20.0]
    band = mean_band(given, at=[5, 10])
    assert band.mean == pytest.approx([0.75, 1.5])
    with pytest.raises(PicoLMError, match="the curves share no place"):
        mean_band({1: Curve.of([0], [1]), 2: Curve.of([1], [1])})
    with pytest.raises(PicoLMError, match="has no value from 5 to 30"):
        mean_band(given, at=[5, 30])


def test_a_run_that_diverged_is_left_out_of_all_places_by_name() -> None:
    given = curves("diverged", seeds=3)
    broken = given | {1: Curve.of(STEPS, [5, 4, 3, np.nan, np.inf])}
    band = mean_band(broken)
    assert band.seeds == (0, 2) and band.dropped == (Dropped(1, "the curve is nan"),)
    assert mean_band(broken, at=[0, 10, 20]).seeds == (0, 1, 2)
    assert difference_band(given, broken).dropped == (Dropped(1, "baseline is nan"),)


def test_one_seed_has_a_curve_and_no_band() -> None:
    band = mean_band(curves("alone", seeds=1))
    assert band.low is None and band.high is None
