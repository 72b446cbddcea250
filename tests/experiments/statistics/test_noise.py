"""The noise floor: its interval is chi-square's and covers; too few seeds are told."""

import math

import numpy as np
import pytest
from scipy import stats

from picolm.errors import PicoLMError
from picolm.experiments.statistics.noise import noise_floor
from picolm.experiments.statistics.seeds import Dropped
from picolm.randomness import generator


def test_the_interval_of_the_spread_is_that_of_chi_square() -> None:
    values = [2.31, 2.29, 2.35, 2.28, 2.33]
    floor = noise_floor(dict(enumerate(values)), alpha=0.1)
    sd = np.std(values, ddof=1)
    assert floor.sd == pytest.approx(sd) and floor.estimate.value == pytest.approx(np.mean(values))
    expected = np.sqrt(4 * sd**2 / stats.chi2.ppf([0.95, 0.05], 4))
    assert (floor.sd_low, floor.sd_high) == pytest.approx(expected)
    assert floor.unpaired_difference_sd == pytest.approx(math.sqrt(2) * sd)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_interval_of_the_spread_covers_as_often_as_it_says(seeds: int) -> None:
    drawn = generator(1, "noise", seeds).normal(3.0, 0.2, (3000, seeds))
    floors = [noise_floor(dict(enumerate(row))) for row in drawn]
    assert np.mean([floor.sd_low <= 0.2 <= floor.sd_high for floor in floors]) == pytest.approx(0.95, abs=0.014)


def test_seeds_that_diverged_are_named_and_left_out() -> None:
    floor = noise_floor({1: 2.0, 2: math.nan, 3: 2.2, "init 4": math.inf})
    assert floor.seeds == (1, 3)
    assert floor.dropped == (Dropped(2, "baseline is nan"), Dropped("init 4", "baseline is inf"))


def test_few_seeds_are_told_and_one_is_refused() -> None:
    assert "take 8 or more" in (noise_floor({1: 2.0, 2: 2.1}).warning or "")
    assert noise_floor({seed: 2.0 + seed for seed in range(8)}).warning is None
    with pytest.raises(PicoLMError, match="two seeds of the baseline or more"):
        noise_floor({1: 2.0})
    with pytest.raises(PicoLMError, match="no seed has a finite value of baseline; seed 1: baseline is nan"):
        noise_floor({1: math.nan})
