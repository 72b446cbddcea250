"""Times to a loss: Kaplan-Meier as statsmodels and lifelines have it, and an exact paired test."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.experiments.statistics.reach import Reach
from picolm.experiments.statistics.seeds import Dropped, Seed
from picolm.experiments.statistics.survival import _scores, compare_reach, kaplan_meier
from picolm.randomness import generator

FROZEN = json.loads((Path(__file__).parents[1] / "fixtures" / "statistics.json").read_text(encoding="utf-8"))


def by_seed(*reaches: Reach) -> dict[Seed, Reach]:
    return dict(enumerate(reaches))


def at(*places: float, end: float = 100.0) -> dict[Seed, Reach]:
    """Runs that get there at these places, or never before their end."""
    return by_seed(*(Reach(min(place, end), reached=place <= end) for place in places))


@pytest.mark.parametrize("case", FROZEN["kaplan_meier"])
def test_the_share_that_is_left_and_its_median_are_those_of_statsmodels_and_lifelines(
    case: dict[str, list[float]],
) -> None:
    found = kaplan_meier([Reach(x, bool(reached)) for x, reached in zip(case["times"], case["reached"], strict=True)])
    assert found.x.tolist() == case["x"] and found.share == pytest.approx(case["share"])
    assert found.median == case["median"]


def test_scores_without_censoring_are_ranks_and_with_it_they_sum_to_nothing() -> None:
    plain = _scores([Reach(x, reached=True) for x in (4.0, 1.0, 3.0, 2.0)])
    assert plain == pytest.approx((5 - 2 * np.array([4, 1, 3, 2])) / 4)
    censored = _scores([Reach(1.0, True), Reach(2.0, False), Reach(2.0, True), Reach(3.0, False), Reach(3.0, True)])
    assert censored.sum() == pytest.approx(0) and censored[1] < censored[2]


def test_the_p_value_counts_the_flips_of_signs_that_are_as_far() -> None:
    treatment, baseline = at(20, 30, 25, 90, 40), at(50, 28, 60, 200, 200)
    found = compare_reach(treatment, baseline)
    scores = _scores([reach for seed in treatment for reach in (treatment[seed], baseline[seed])]).reshape(-1, 2)
    differences = scores[:, 0] - scores[:, 1]
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=5)]
    assert found.p_value == np.mean([one >= abs(differences.sum()) - 1e-12 for one in sums])
    assert (found.earlier, found.later, found.undecided) == (4, 1, 0)
    assert (found.median_treatment, found.median_baseline) == (30.0, 60.0)
    assert found.smallest_p == 2 / 32 and found.log_ratio is None


def test_all_pairs_one_way_give_the_smallest_p_value_and_no_less() -> None:
    for seeds in (2, 3, 5, 8):
        found = compare_reach(at(*range(10, 10 + seeds)), at(*[200] * seeds))
        assert found.p_value == found.smallest_p == 2.0 ** (1 - seeds)
        assert found.median_baseline is None


def test_a_run_that_ended_too_early_to_tell_decides_nothing() -> None:
    ended = by_seed(Reach(30.0, reached=False), Reach(30.0, reached=False), Reach(50.0, reached=True))
    found = compare_reach(at(40, 20, 50), ended)
    assert (found.earlier, found.later, found.undecided) == (1, 0, 2)


def test_without_censoring_the_speed_is_told_by_a_paired_t_on_logarithms() -> None:
    found = compare_reach(at(20, 30, 40), at(40, 60, 80))
    assert found.log_ratio is not None
    assert math.exp(found.log_ratio.estimate.value) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=7))
def test_swapping_arms_and_bending_the_axis_leave_the_p_value_alone(rows: list[tuple[int, int]]) -> None:
    one, other = at(*(a for a, _ in rows), end=9), at(*(b for _, b in rows), end=9)
    found, swapped = compare_reach(one, other), compare_reach(other, one)
    assert (swapped.p_value, swapped.earlier, swapped.later) == (found.p_value, found.later, found.earlier)
    bent = [{seed: Reach(reach.x**3, reach.reached) for seed, reach in arm.items()} for arm in (one, other)]
    assert compare_reach(*bent).p_value == found.p_value


@pytest.mark.parametrize("seeds", [5, 8, 20])
def test_arms_that_do_not_differ_are_seldom_told_apart(seeds: int) -> None:
    rng, runs = generator(16, "exchangeable", seeds), 200 if seeds > 16 else 2000
    hardness = rng.normal(0, 0.3, (runs, seeds, 1))
    times = 60 * np.exp(hardness + rng.normal(0, 0.5, (runs, seeds, 2)))
    p = np.array([compare_reach(at(*run[:, 0]), at(*run[:, 1])).p_value for run in times])
    for level in (0.0625, 0.125, 0.25):
        assert (p <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / runs)


def test_many_pairs_that_differ_are_told_apart_by_drawn_flips() -> None:
    rng = generator(17, "many")
    found = compare_reach(at(*rng.uniform(10, 40, 20)), at(*rng.uniform(30, 140, 20)))
    assert found.smallest_p == 1 / 65_537 and found.p_value < 0.01


def test_seeds_without_a_pair_are_named_and_runs_alike_are_told_as_such() -> None:
    found = compare_reach(at(20, 30), at(20))
    assert found.dropped == (Dropped(1, "baseline is missing"),)
    assert (found.p_value, found.undecided) == (1.0, 1)


def test_no_runs_at_all_are_refused() -> None:
    with pytest.raises(PicoLMError, match="one run or more"):
        kaplan_meier([])
    with pytest.raises(PicoLMError, match="no seed has a finite value of treatment and baseline"):
        compare_reach(at(20), {7: Reach(20.0, reached=True)})
