"""Items crossed with seeds: variance components, the bootstrap they stand for, coverage for other seeds and items."""

import math

import numpy as np
import pytest

from picolm.errors import PicoLMError
from picolm.experiments.statistics.crossed import CrossedDifference, crossed_difference
from picolm.experiments.statistics.differences import paired_difference
from picolm.experiments.statistics.seeds import Dropped, FloatArray
from picolm.randomness import generator


def compared(differences: FloatArray, **options: object) -> CrossedDifference:
    """Of differences [S, I]: the baseline scores 0."""
    zeros = np.zeros(differences.shape[1])
    treatment = dict(enumerate(differences))
    return crossed_difference(treatment, dict.fromkeys(treatment, zeros), **options)  # type: ignore[arg-type]


def drawn(key: str, seeds: int, items: int, sds: tuple[float, float, float], runs: int = 1) -> FloatArray:
    """Differences [runs, S, I] about 0, with effects of seeds, of items and of both."""
    rng = generator(10, key, seeds, items)
    a, b = rng.normal(0, sds[0], (runs, seeds, 1)), rng.normal(0, sds[1], (runs, 1, items))
    return np.asarray(a + b + rng.normal(0, sds[2], (runs, seeds, items)))


def test_the_errors_are_those_of_the_two_way_analysis_of_variance() -> None:
    d = drawn("anova", 4, 30, (0.3, 1.0, 0.5))[0]
    rows, columns, mean = d.mean(axis=1, keepdims=True), d.mean(axis=0, keepdims=True), d.mean()
    ms_seeds = 30 * ((rows - mean) ** 2).sum() / 3
    ms_items = 4 * ((columns - mean) ** 2).sum() / 29
    ms_residual = ((d - rows - columns + mean) ** 2).sum() / (3 * 29)
    found = compared(d)
    assert found.estimate.value == pytest.approx(mean)
    assert found.estimate.seed_error == pytest.approx(math.sqrt(ms_seeds / 120))
    assert found.estimate.item_error == pytest.approx(math.sqrt((ms_items - ms_residual) / 120))
    assert found.residual_variance == pytest.approx(ms_residual)
    assert found.seed_variance == pytest.approx(max((ms_seeds - ms_residual) / 30, 0))
    assert found.item_variance == pytest.approx((ms_items - ms_residual) / 4)


def test_variance_components_are_right_on_average() -> None:
    found = [compared(d) for d in drawn("components", 6, 40, (0.5, 0.8, 1.0), runs=1500)]
    assert np.mean([one.seed_variance for one in found]) == pytest.approx(0.25, rel=0.05)
    assert np.mean([one.item_variance for one in found]) == pytest.approx(0.64, rel=0.05)
    assert np.mean([one.residual_variance for one in found]) == pytest.approx(1.0, rel=0.02)


def test_the_closed_form_is_what_a_bootstrap_over_items_tends_to() -> None:
    d = drawn("bootstrap", 5, 60, (0.3, 1.0, 0.5))[0]
    exact, resampled = compared(d), compared(d, draws=20_000)
    assert resampled.estimate.value == exact.estimate.value
    assert resampled.estimate.item_error == pytest.approx(exact.estimate.item_error, rel=0.02)
    assert resampled.residual_variance == pytest.approx(exact.residual_variance, rel=0.03)
    assert compared(d, draws=50, seed=1) == compared(d, draws=50, seed=1) != compared(d, draws=50, seed=2)


def test_groups_that_are_drawn_together_widen_the_interval_and_the_mean_stays_that_over_items() -> None:
    rng = generator(11, "groups")
    sizes = rng.integers(5, 15, 24)
    groups = np.repeat(np.arange(24), sizes)
    d = rng.normal(0, 0.1, (4, 1)) + np.repeat(rng.normal(0, 1.0, 24), sizes) + rng.normal(0, 0.3, (4, len(groups)))
    alone, together = compared(d), compared(d, groups=groups.tolist())
    assert together.estimate.value == pytest.approx(alone.estimate.value) and together.items == 24
    assert together.estimate.item_error > 2 * alone.estimate.item_error
    resampled = compared(d, groups=groups.tolist(), draws=20_000)
    assert resampled.estimate.item_error == pytest.approx(together.estimate.item_error, rel=0.04)
    single = compared(d, groups=list(range(len(groups))))
    assert single.estimate.item_error == pytest.approx(alone.estimate.item_error)


@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("items", [50, 500])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_the_interval_covers_for_other_seeds_and_items(seeds: int, items: int, part: float) -> None:
    """`part` of the variance of the mean is that of items, the rest of seeds, beside a residual of a tenth."""
    sds = (math.sqrt(seeds * (1 - part)), math.sqrt(items * part), math.sqrt(0.1 * seeds * items))
    covered = []
    for d in drawn("coverage", seeds, items, sds, runs=1500):
        interval = compared(d).estimate.interval()
        assert interval is not None
        covered.append(interval.low <= 0 <= interval.high)
    # Never below what it says, but for the simulation's own error; above where items have their say beside few seeds.
    assert 0.95 - 0.018 <= np.mean(covered) <= 0.99


def test_seeds_alone_would_miss_other_items_and_items_alone_other_seeds() -> None:
    sds = (math.sqrt(8 * 0.5), math.sqrt(50 * 0.5), 0.1)
    only_seeds = [
        paired_difference(dict(enumerate(d.mean(axis=1))), dict.fromkeys(range(8), 0.0)).estimate.interval()
        for d in drawn("one way", 8, 50, sds, runs=500)
    ]
    assert np.mean([one.low <= 0 <= one.high for one in only_seeds]) < 0.9  # type: ignore[union-attr]


def test_the_interval_is_never_narrower_than_the_paired_t_over_seeds() -> None:
    for d in drawn("width", 4, 20, (0.5, 0.1, 1.0), runs=200):
        paired = paired_difference(dict(enumerate(d.mean(axis=1))), dict.fromkeys(range(4), 0.0)).estimate
        found = compared(d).estimate
        assert found.seed_error == pytest.approx(paired.seed_error)
        assert found.half_width(0.025) >= paired.half_width(0.025) * (1 - 1e-12)


def test_swapping_arms_turns_the_sign_and_the_order_of_items_is_of_no_account() -> None:
    scores = generator(12, "swap").normal(size=(2, 4, 30))
    one, other = dict(enumerate(scores[0])), dict(enumerate(scores[1]))
    found, swapped = crossed_difference(one, other), crossed_difference(other, one)
    assert swapped.estimate.value == -found.estimate.value
    assert swapped.estimate.standard_error == pytest.approx(found.estimate.standard_error)
    turned = crossed_difference({k: v[::-1] for k, v in one.items()}, {k: v[::-1] for k, v in other.items()})
    assert turned.estimate.standard_error == pytest.approx(found.estimate.standard_error)


def test_seeds_without_a_pair_or_with_scores_that_are_no_numbers_are_named() -> None:
    scores = {seed: np.arange(4.0) + seed**2 for seed in (1, 2, 3)}
    broken = {1: np.zeros(4), 2: np.zeros(4), 3: np.array([0, 1, np.nan, 1]), 4: np.zeros(4)}
    found = crossed_difference(scores, broken)
    assert list(found.differences) == [1, 2]
    assert found.dropped == (Dropped(3, "baseline is nan"), Dropped(4, "treatment is missing"))


def test_one_seed_says_nothing_of_other_seeds() -> None:
    found = crossed_difference({1: np.arange(5.0)}, {1: np.zeros(5)})
    assert found.estimate.value == 2.0 and found.estimate.interval() is None


def test_scores_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(PicoLMError, match="one score for each item"):
        crossed_difference({1: np.zeros(4)}, {1: np.zeros(5)})
    with pytest.raises(PicoLMError, match="two items or more"):
        crossed_difference({1: np.zeros(1)}, {1: np.zeros(1)})
    with pytest.raises(PicoLMError, match="two groups or more"):
        crossed_difference({1: np.zeros(2)}, {1: np.zeros(2)}, groups=["a", "a"])
    with pytest.raises(PicoLMError, match="as many groups, not 1"):
        crossed_difference({1: np.zeros(2)}, {1: np.zeros(2)}, groups=["a"])
