"""Curves: straight between points, nowhere else."""

import numpy as np
import pytest

from picolm.errors import PicoLMError
from picolm.experiments.statistics.curve import Curve


def test_between_points_a_curve_is_straight_and_beyond_them_it_is_not() -> None:
    curve = Curve.of([0, 10, 20], [0.0, 1.0, 5.0])
    assert curve.at(np.array([0.0, 5.0, 15.0, 20.0])) == pytest.approx([0.0, 0.5, 3.0, 5.0])
    with pytest.raises(PicoLMError, match="a curve from 0 to 20 has no value from 5 to 21"):
        curve.at(np.array([5.0, 21.0]))


def test_a_run_that_diverged_has_its_values_up_to_there() -> None:
    curve = Curve.of([0, 10, 20], [2.0, 1.0, np.nan])
    values = curve.at(np.array([5.0, 10.0, 15.0]))
    assert values[:2] == pytest.approx([1.5, 1.0]) and np.isnan(values[2])


@pytest.mark.parametrize(
    ("x", "y"), [([], []), ([1, 1], [0, 0]), ([2, 1], [0, 0]), ([0, np.inf], [0, 0]), ([1], [1, 2])]
)
def test_points_that_make_no_curve_are_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(PicoLMError, match=r"of a curve must be finite and ascending|as many values as places"):
        Curve.of(x, y)
