"""Pacing against its table, its ends, and what every shape has in common."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from picolm.interventions.pacing import Kind, Pacing

RISING = ("linear", "quad", "root", "exp", "log", "step")
N = 1_000_000


def at(kind: Kind, u: float, begin: float = 0.1, full: float = 1.0) -> float:
    """At a share of the window that is the whole run."""
    return Pacing(kind=kind, start=0.0, end=1.0, begin=begin, full=full).at(round(u * N), N)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("linear", [0.100, 0.101, 0.109, 0.190, 0.550, 1.0]),
        ("log", [0.100, 0.382, 0.586, 0.793, 0.938, 1.0]),
        ("quad", [0.1, 0.1 + 0.9e-6, 0.1 + 0.9e-4, 0.109, 0.325, 1.0]),
        ("root", [0.1, 0.1 + 0.9 * 0.001**0.5, 0.19, 0.1 + 0.9 * 0.1**0.5, 0.1 + 0.9 * 0.5**0.5, 1.0]),
        (
            "exp",
            [0.1, *(0.1 + 0.9 * (math.e ** (10 * u) - 1) / (math.e**10 - 1) for u in (0.001, 0.01, 0.1, 0.5)), 1.0],
        ),
        ("step", [0.1, 0.1, 0.1, 0.1, 0.1, 1.0]),
        ("constant", [1.0] * 6),
    ],
)
def test_the_table(kind: Kind, values: list[float]) -> None:
    found = [at(kind, u) for u in (0.0, 0.001, 0.01, 0.1, 0.5, 1.0)]
    assert found == pytest.approx(values, abs=5.1e-4)


def test_log_begins_where_it_should_to_twelve_digits() -> None:
    assert at("log", 0.0) == pytest.approx(0.1, abs=1e-12)


@pytest.mark.parametrize("kind", RISING)
@given(
    begin=st.floats(0.0, 1.0), more=st.floats(0.0, 1.0), start=st.floats(0.0, 0.8), width=st.floats(0.05, 0.2),
    steps=st.integers(10, 3000),
)  # fmt: skip
def test_every_shape_rises_between_its_ends(
    kind: Kind, begin: float, more: float, start: float, width: float, steps: int
) -> None:
    full = begin + (1.0 - begin) * more
    pacing = Pacing(kind=kind, start=start, end=start + width, begin=begin, full=full)
    values = [pacing.at(step, steps) for step in range(steps + 1)]
    assert all(a <= b + 1e-12 for a, b in pairwise(values))
    assert all(begin - 1e-9 <= value <= full for value in values)
    assert all(value == begin for step, value in enumerate(values) if step < start * steps)
    assert values[-1] == pytest.approx(full, abs=1e-12)


def test_as_climb_ran_it() -> None:
    pacing, steps = Pacing(kind="linear"), 400_000
    assert [pacing.at(step, steps) for step in (0, 24_999, 25_000)] == [0.1, 0.1, 0.1]
    assert pacing.at(350_000, steps) == pacing.at(399_999, steps) == 1.0
    assert pacing.at(187_500, steps) == pytest.approx(0.55)
    step = Pacing(kind="step")
    assert [step.at(one, steps) for one in (349_999, 350_000)] == [0.1, 1.0]


def test_what_is_no_pacing_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"end 0\.2 is not above start 0\.5"):
        Pacing(start=0.5, end=0.2)
    with pytest.raises(ValidationError, match=r"full 0\.2 is below begin 0\.5"):
        Pacing(begin=0.5, full=0.2)
