"""Interactions with size: difference of differences, slope and Welch, as scipy and plain algebra have them."""

import numpy as np
import pytest
from scipy import stats

from picolm.errors import PicoLMError
from picolm.experiments.statistics.interaction import interaction
from picolm.experiments.statistics.seeds import Dropped
from picolm.randomness import generator

SIZES = (11e6, 65e6, 181e6, 570e6)


def effects(
    key: str, sizes: tuple[float, ...], seeds: int = 5, slope: float = 0.0
) -> dict[float, dict[int | str, float]]:
    draws = generator(13, key).normal(0, 0.3, (len(sizes), seeds))
    return {size: dict(enumerate(slope * np.log10(size) + row)) for size, row in zip(sizes, draws, strict=True)}


def test_with_two_sizes_it_is_the_paired_t_test_of_the_difference_of_differences() -> None:
    given = effects("two", SIZES[:2])
    small, large = (np.array(list(given[size].values())) for size in SIZES[:2])
    found = interaction(given, same_seeds=True)
    expected = stats.ttest_rel(large, small)
    assert found.estimate.value == pytest.approx((large - small).mean())
    assert found.estimate.p_value() == pytest.approx(expected.pvalue)
    assert found.effects == pytest.approx((small.mean(), large.mean())) and found.sizes == SIZES[:2]


def test_with_two_sizes_of_other_seeds_it_is_welchs_test() -> None:
    given = effects("welch", SIZES[:2])
    del given[SIZES[0]][0]
    small, large = (np.array(list(given[size].values())) for size in SIZES[:2])
    found = interaction(given, same_seeds=False).estimate
    expected = stats.ttest_ind(large, small, equal_var=False)
    assert found.p_value() == pytest.approx(expected.pvalue) and found.degrees_of_freedom == pytest.approx(expected.df)
    interval = found.interval()
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_with_more_sizes_it_is_the_slope_per_tenfold_parameters_seed_by_seed() -> None:
    given = effects("slope", SIZES, slope=0.4)
    found = interaction(given, same_seeds=True)
    slopes = [stats.linregress(np.log10(SIZES), [given[size][seed] for size in SIZES]).slope for seed in range(5)]
    assert found.estimate.value == pytest.approx(np.mean(slopes))
    assert found.estimate.p_value() == pytest.approx(stats.ttest_1samp(slopes, 0).pvalue)
    other = interaction(dict(reversed(given.items())), same_seeds=False).estimate
    assert other.value == pytest.approx(found.estimate.value)


@pytest.mark.parametrize("same_seeds", [True, False])
def test_an_effect_that_does_not_change_with_size_is_seldom_an_interaction(same_seeds: bool) -> None:
    draws = generator(14, "coverage", str(same_seeds)).normal(size=(2500, 3, 4)) * np.array([[0.3], [0.2], [0.1]])
    significant = []
    for run in draws:
        given = {size: dict(enumerate(0.5 + row)) for size, row in zip(SIZES[:3], run, strict=True)}
        p = interaction(given, same_seeds=same_seeds).estimate.p_value()
        assert p is not None
        significant.append(p <= 0.05)
    assert np.mean(significant) == pytest.approx(0.05, abs=0.016)


def test_seeds_that_a_size_lacks_are_named_where_seeds_are_shared() -> None:
    given = effects("missing", SIZES[:2], seeds=3)
    given[SIZES[1]][1] = float("nan")
    found = interaction(given, same_seeds=True)
    assert found.dropped == (Dropped(1, "the effect at 6.5e+07 parameters is nan"),)
    assert found.estimate.seeds == 2


def test_one_seed_a_size_has_a_value_and_no_interval() -> None:
    for same_seeds in (True, False):
        found = interaction({1e6: {1: 0.5}, 1e7: {1: 0.75}}, same_seeds=same_seeds).estimate
        assert found.value == pytest.approx(0.25) and found.interval() is None


def test_effects_without_spread_are_certain() -> None:
    for same_seeds in (True, False):
        found = interaction({1e6: {1: 0.5, 2: 0.5}, 1e7: {1: 0.75, 2: 0.75}}, same_seeds=same_seeds).estimate
        assert found.p_value() == 0.0


@pytest.mark.parametrize("sizes", [(1e6,), (0.0, 1e6)])
def test_what_is_no_pair_of_sizes_is_refused(sizes: tuple[float, ...]) -> None:
    with pytest.raises(PicoLMError, match="two sizes or more, all above 0"):
        interaction({size: {1: 0.1, 2: 0.2} for size in sizes}, same_seeds=True)
