"""Too few seeds are told before the run, and enough are not complained of."""

import re

import pytest

from picolm.errors import PicoLMError
from picolm.experiments.statistics.foresight import too_few_seeds
from picolm.experiments.statistics.power import Spread, chance_beyond, chance_within


@pytest.mark.parametrize("direction", ["higher", "lower", "same"])
@pytest.mark.parametrize("predictions", [1, 4])
def test_the_number_that_is_asked_for_is_enough_and_one_less_is_not(direction: str, predictions: int) -> None:
    told = too_few_seeds(3, direction, 0.2, sd=0.2, predictions=predictions)  # type: ignore[arg-type]
    number = re.search(r"takes (\d+) seeds", told or "")
    assert number is not None
    needed, tail = int(number[1]), 0.025 / predictions
    for seeds, enough in ((needed, True), (needed - 1, False)):
        assert (too_few_seeds(seeds, direction, 0.2, sd=0.2, predictions=predictions) is None) == enough  # type: ignore[arg-type]
        chance = (
            chance_within(0.0, 0.2, Spread(0.2), seeds, tail=tail)
            if direction == "same"
            else chance_beyond(0.2, Spread(0.2), seeds, tail=tail)
        )
        assert (chance >= 0.8) == enough


def test_one_seed_never_is_and_three_without_a_known_spread_are_told_what_they_tell() -> None:
    assert "no verdict can fall" in (too_few_seeds(1, "lower", 0.1, sd=0.0) or "")
    assert "3.3 standard deviations" in (too_few_seeds(3, "lower", 0.1) or "")
    assert "3.3 standard deviations" in (too_few_seeds(3, "lower", 0.0, sd=0.1) or "")
    assert too_few_seeds(5, "lower", 0.1) is None
    assert "more than 1,000 seeds" in (too_few_seeds(5, "lower", 0.001, sd=1.0) or "")


def test_a_prediction_that_nothing_could_meet_is_refused_before_the_run() -> None:
    with pytest.raises(PicoLMError, match="'same' needs a smallest effect above 0"):
        too_few_seeds(3, "same", 0.0)
