import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.analysis.steps import chosen_steps, thinned
from picolm.errors import PicoLMError

PYTHIA = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 144_000, 1000))
STEPS = st.lists(st.integers(0, 10**6), min_size=1, max_size=40, unique=True).map(sorted)


def test_what_can_be_written() -> None:
    assert chosen_steps("all", PYTHIA) == list(PYTHIA)
    assert chosen_steps("last", PYTHIA) == [143_000]
    assert chosen_steps("512", PYTHIA) == chosen_steps(512, PYTHIA) == [512]
    assert chosen_steps("1000, 0,512", PYTHIA) == chosen_steps([1000, 0, 512, 0], PYTHIA) == [0, 512, 1000]
    assert chosen_steps("last", ()) == []


def test_the_pythia_suite_thinned() -> None:
    """154 checkpoints, almost all of them late: evenly by the logarithm."""
    assert chosen_steps("log:8", PYTHIA) == [0, 4, 32, 128, 1000, 5000, 26000, 143000]


@given(STEPS, st.integers(1, 50))
def test_thinning_keeps_the_ends_and_no_more_than_asked_for(steps: list[int], count: int) -> None:
    some = thinned(steps, count)
    assert some == sorted(set(some)) and set(some) <= set(steps) and 1 <= len(some) <= count
    assert some[-1] == steps[-1]
    assert count == 1 or some[0] == steps[0]
    assert count < len(steps) or some == steps


def test_even_steps_are_found_evenly() -> None:
    powers = [2**i - 1 for i in range(13)]
    assert thinned(powers, 5) == [0, 7, 63, 511, 4095]
    assert thinned(powers, 1) == [4095]


@pytest.mark.parametrize("wanted", ["", "some", "log", "log:", "log:0", "log:x", "1,,2", "-1"])
def test_other_ways_are_refused(wanted: str) -> None:
    with pytest.raises(PicoLMError, match="steps can be all, last, numbers"):
        chosen_steps(wanted, PYTHIA)


def test_steps_that_are_not_there() -> None:
    with pytest.raises(PicoLMError, match="there is no step 3; there are: 0, 1, 2"):
        chosen_steps([0, 3], (0, 1, 2))
    with pytest.raises(PicoLMError, match="there are: none"):
        chosen_steps(0, ())
