"""Schedules of steps."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import picolm
from picolm.config.recording import Steps
from picolm.errors import PicoLMError

schedules = st.builds(
    Steps,
    every=st.integers(0, 50),
    per_doubling=st.integers(0, 9),
    at=st.lists(st.integers(0, 400), max_size=4).map(tuple),
)


@given(schedules, st.integers(0, 400))
def test_the_list_of_steps_is_those_that_are_included(steps: Steps, last: int) -> None:
    assert steps.up_to(last) == [step for step in range(last + 1) if steps.includes(step)]


@given(schedules)
def test_a_schedule_is_the_union_of_its_rules(steps: Steps) -> None:
    parts = (Steps(every=steps.every), Steps(per_doubling=steps.per_doubling), Steps(at=steps.at))
    assert set(steps.up_to(400)) == set().union(*(part.up_to(400) for part in parts))


def test_log_spaced_steps_are_those_of_pythia() -> None:
    assert Steps(per_doubling=1).up_to(600) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


@given(st.integers(1, 8), st.integers(6, 20))
def test_log_spaced_steps_are_so_many_in_each_doubling(per_doubling: int, power: int) -> None:
    steps = [step for step in Steps(per_doubling=per_doubling).up_to(2 ** (power + 1)) if 2**power <= step]
    assert len(steps) == per_doubling + 1
    ratios = [math.log2(b / a) * per_doubling for a, b in pairwise(steps)]
    assert ratios == pytest.approx([1.0] * per_doubling, abs=0.25)


def test_one_step_may_stand_without_brackets_and_a_key_keeps_the_others_defaults() -> None:
    model = picolm.load_config(None, ["checkpoints.model.at=7"]).checkpoints.model
    assert (model.at, model.every, model.per_doubling) == ((7,), 1000, 1)
    with pytest.raises(PicoLMError, match=r"checkpoints\.model\.at\.0"):
        picolm.load_config(None, ["checkpoints.model.at=-1"])
