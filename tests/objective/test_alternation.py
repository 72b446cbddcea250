"""Two kinds of step in a given proportion: exact in blocks, by coins on average, the same for whoever asks."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from picolm.objective.alternation import Alternation, Coins, ShuffledBlocks, Throughout, Within
from picolm.randomness import generator

DRAW = partial(generator, 0)


def kinds(one: Alternation, steps: int) -> np.ndarray:
    return np.array([one.is_second(step) for step in range(steps)])


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0])
def test_a_block_has_its_share_exactly(ratio: float) -> None:
    one = ShuffledBlocks(ratio, DRAW)
    found = kinds(one, 10 * one.length).reshape(10, one.length)
    assert found.sum(axis=1).tolist() == [round(ratio * one.length)] * 10
    assert one.length >= 16 and ratio * one.length == pytest.approx(round(ratio * one.length))
    if 0 < ratio < 1:
        assert len({tuple(block) for block in found.tolist()}) > 5


def test_coins_fall_as_often_as_they_should_and_independently() -> None:
    found = kinds(Coins(0.3, DRAW), 10_000)
    assert abs(found.mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 10_000)
    both = (found[1:] & found[:-1]).mean()
    assert abs(both - 0.09) < 4 * math.sqrt(0.09 * 0.91 / 10_000)


@pytest.mark.parametrize("kind", [ShuffledBlocks, Coins])
def test_the_count_is_that_of_the_steps_from_wherever_it_is_asked(kind: type[ShuffledBlocks | Coins]) -> None:
    found = kinds(kind(0.4, DRAW), 3000)
    for step in (2999, 0, 1, 17, 1024, 1025, 2048):
        # Each time another object, as on another rank or after a resume.
        assert kind(0.4, DRAW).before(step) == found[:step].sum()
    other = kinds(kind(0.4, partial(generator, 1)), 3000)
    assert not np.array_equal(found, other)


def test_within_bounds_the_steps_count_from_the_first() -> None:
    base = ShuffledBlocks(0.5, DRAW)
    one, whole = Within(base, 10, 50), Within(Throughout(), 3, None)
    found = kinds(one, 80)
    assert not found[:10].any() and not found[50:].any()
    np.testing.assert_array_equal(found[10:50], kinds(base, 40))
    assert [one.before(step) for step in range(81)] == [0, *np.cumsum(found).tolist()]
    assert [whole.before(step) for step in (0, 3, 5)] == [0, 0, 2] and not whole.is_second(2)
