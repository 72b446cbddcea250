"""Power: that of the noncentral t and of statsmodels, and of simulated experiments judged by their intervals."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from picolm.errors import PicoLMError
from picolm.experiments.statistics.estimate import Estimate
from picolm.experiments.statistics.power import (
    Spread,
    chance_beyond,
    chance_within,
    seeds_needed,
    seeds_to_settle,
    smallest_detectable,
)
from picolm.randomness import generator

FROZEN = json.loads((Path(__file__).parents[1] / "fixtures" / "statistics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("gap", [-0.5, 0.0, 0.1, 0.4, 1.0, 3.0])
@pytest.mark.parametrize("seeds", [2, 3, 8, 200])
def test_it_is_the_noncentral_t_where_there_are_no_items(gap: float, seeds: int) -> None:
    for tail in (0.025, 0.005):
        expected = stats.nct.sf(stats.t.isf(tail, seeds - 1), seeds - 1, gap / 0.5 * math.sqrt(seeds))
        assert chance_beyond(gap, Spread(0.5), seeds, tail=tail) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("case", FROZEN["power"])
def test_it_is_that_of_statsmodels_and_so_is_the_number_of_seeds(case: dict[str, object]) -> None:
    effect, tail = float(case["effect"]), float(case["tail"])  # type: ignore[arg-type]
    for seeds, power in case["power"].items():  # type: ignore[attr-defined]
        assert chance_beyond(effect, Spread(1.0), int(seeds), tail=tail) == pytest.approx(power, abs=1e-5)
    assert seeds_needed(effect, 1.0, alpha=2 * tail).seeds == math.ceil(float(case["seeds"]))  # type: ignore[arg-type]


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_smallest_detectable_effect_is_told_by_so_many_seeds_and_no_fewer(seeds: int) -> None:
    gap = smallest_detectable(seeds, 0.3)
    assert chance_beyond(gap, Spread(0.3), seeds) == pytest.approx(0.8, abs=1e-5)
    assert seeds_needed(1.001 * gap, 0.3).seeds == seeds
    assert seeds_needed(0.98 * gap, 0.3).seeds == seeds + 1 or seeds == 2
    assert smallest_detectable(seeds, 0.0) == 0.0


@pytest.mark.parametrize(
    ("value", "direction", "item_error"),
    [
        (0.5, "higher", 0.0),
        (-0.45, "lower", 0.0),
        (0.0, "higher", 0.0),
        (0.02, "same", 0.0),
        (0.5, "same", 0.0),
        (0.6, "higher", 0.08),
        (0.0, "same", 0.04),
    ],
)
def test_the_number_that_would_settle_it_settles_four_of_five(value: float, direction: str, item_error: float) -> None:
    observed = Estimate(value, 4, 0.4 / 2, 3, item_error, 99)
    count = seeds_to_settle(observed, direction, 0.2)  # type: ignore[arg-type]
    assert count.seeds is not None and 4 < count.seeds < 100
    n, rng = count.seeds, generator(5, "settle", str(value), direction)
    settled = []
    for seeds in (n, n - 1):
        means = rng.normal(value, 0.4 / math.sqrt(seeds), 40_000) + rng.normal(0, item_error, 40_000)
        over_seeds = 0.4**2 * rng.chisquare(seeds - 1, 40_000) / (seeds - 1) / seeds
        quantiles = stats.t.isf(0.025, [seeds - 1, 99])
        half = np.sqrt(quantiles[0] ** 2 * over_seeds + (quantiles[1] * item_error) ** 2)
        low, high = means - half, means + half
        if direction == "same":
            verdict = (low > -0.2) & (high < 0.2) if abs(value) < 0.2 else (low > 0.2)
        else:
            sign = 1 if direction == "higher" else -1
            verdict = (low > 0.2) | (high < 0.2) if sign > 0 else (high < -0.2) | (low > -0.2)
        settled.append(verdict.mean())
    assert settled[0] >= 0.79 and settled[1] <= 0.81


def test_chances_within_a_margin_are_those_of_two_one_sided_tests() -> None:
    rng = generator(6, "within")
    draws = rng.normal(0.1, 0.3, (40_000, 6))
    half = stats.t.isf(0.025, 5) * draws.std(axis=1, ddof=1) / math.sqrt(6)
    within = (np.abs(draws.mean(axis=1)) + half < 0.5).mean()
    assert chance_within(0.1, 0.5, Spread(0.3), 6) == pytest.approx(within, abs=0.01)
    assert chance_within(-0.1, 0.5, Spread(0.3), 6) == pytest.approx(chance_within(0.1, 0.5, Spread(0.3), 6))
    assert chance_within(0.0, 0.5, Spread(0.1, item_error=1.0, item_degrees_of_freedom=9), 6) == 0.0


def test_no_number_is_given_where_none_would_do() -> None:
    assert "more than 1,000" in str(seeds_to_settle(Estimate(0.21, 4, 1.0, 3), "higher", 0.2))
    assert "sits at the threshold" in str(seeds_to_settle(Estimate(0.2, 4, 1.0, 3), "higher", 0.2))
    assert "one seed" in str(seeds_to_settle(Estimate(0.3, 1, None, None), "higher", 0.2))
    assert "more items" in str(seeds_to_settle(Estimate(0.3, 4, 0.1, 3, 0.2, 49), "higher", 0.2))
    assert "threshold" in str(seeds_needed(0.0, 1.0))
    assert str(seeds_needed(1.0, 0.0)) == "2 seeds"


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(PicoLMError, match="a power lies between 0 and 1"):
        seeds_needed(1.0, 1.0, power=80)
    with pytest.raises(PicoLMError, match="a standard deviation is finite"):
        seeds_needed(1.0, -1.0)
    with pytest.raises(PicoLMError, match="one seed tells no effect"):
        smallest_detectable(1, 1.0)
    with pytest.raises(PicoLMError, match="did you mean 'higher'"):
        seeds_to_settle(Estimate(0.3, 4, 0.1, 3), "highr", 0.2)  # type: ignore[arg-type]
