"""What a search may choose from: how values lie in a range, and that draws do not depend on each other."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from picolm.experiments.space import Dimension, corners, drawn, same


def dimension(value: Any) -> Dimension:
    return Dimension.model_validate(value)


RATE = dimension({"low": 1e-4, "high": 1e-1, "log": True})
WIDTH = dimension({"low": 1, "high": 6, "integer": True})
KIND = dimension(["adamw", "muon", [1, 2]])


@given(st.floats(0, 1, exclude_max=True))
def test_values_lie_in_their_range(share: float) -> None:
    for one in (RATE, WIDTH, KIND, dimension({"low": -3, "high": -2.5})):
        assert one.holds(one.at(share))


def test_equal_stretches_hold_equally_likely_values() -> None:
    shares = [(place + 0.5) / 6000 for place in range(6000)]
    whole = [WIDTH.at(share) for share in shares]
    assert {value: whole.count(value) for value in range(1, 7)} == dict.fromkeys(range(1, 7), 1000)
    rates = [RATE.at(share) for share in shares]
    for decade in (-4, -3, -2):
        assert sum(10**decade <= rate < 10 ** (decade + 1) for rate in rates) == pytest.approx(2000, abs=1)
    assert RATE.at(0.5) == pytest.approx(math.sqrt(1e-4 * 1e-1), rel=1e-5)
    assert dimension({"low": 2, "high": 4}).at(0.25) == 2.5


def test_drawn_values_are_short_enough_to_be_typed() -> None:
    assert all(len(repr(point["rate"]).lstrip("0.").split("e")[0]) <= 7 for point in drawn({"rate": RATE}, 0, 50))


def test_a_point_does_not_depend_on_how_many_follow_nor_on_other_keys() -> None:
    space = {"rate": RATE, "kind": KIND}
    assert drawn(space, 5, 20)[:7] == drawn(space, 5, 7)
    assert [p["rate"] for p in drawn(space | {"width": WIDTH}, 5, 20)] == [p["rate"] for p in drawn(space, 5, 20)]
    assert drawn(space, 5, 20) != drawn(space, 6, 20)
    # Of two keys with one range: neither is a copy of the other.
    assert all(p["a"] != p["b"] for p in drawn({"a": RATE, "b": RATE}, 0, 20))


def test_draws_are_uniform_over_points() -> None:
    counts = {width: 0 for width in range(1, 7)}
    for seed in range(1200):
        counts[drawn({"width": WIDTH}, seed, 1)[0]["width"]] += 1
    chi_square = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert chi_square < 20.5, "beyond the 0.999 quantile at 5 degrees of freedom"


def test_no_point_is_drawn_twice() -> None:
    space = {"width": WIDTH, "kind": KIND}
    points = drawn(space, 0, 18)
    assert len({str(point) for point in points}) == 18


def test_corners_try_every_choice_and_both_ends() -> None:
    found = corners({"rate": RATE, "kind": KIND})
    assert [point["kind"] for point in found] == ["adamw", "muon", [1, 2]]
    assert {point["rate"] for point in found} == {1e-4, 1e-1}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "give a list of values, or a range"),
        ({"low": 1}, "give a list of values, or a range"),
        ({"low": 2, "high": 1}, r"low \(2\) must be less than high \(1\)"),
        ({"low": 0, "high": 1, "log": True}, "must begin above 0, not at 0"),
        ({"low": 0.5, "high": 2, "integer": True}, "must begin and end at a whole number"),
        ({"choices": [1, 2], "low": 0, "high": 1}, "not both"),
        ([1, 2, 1.0], r"1\.0 stands twice"),
    ],
)
def test_what_is_no_dimension(value: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        dimension(value)


def test_one_is_not_true() -> None:
    assert same(1, 1.0) and not same(1, True) and same({"a": [1, 2]}, {"a": (1, 2.0)}) and not same([1], [1, 2])
    assert not KIND.holds("sgd") and not WIDTH.holds(True) and not WIDTH.holds(2.0) and RATE.holds(1e-3)
