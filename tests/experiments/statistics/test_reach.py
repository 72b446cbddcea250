"""When a curve first reaches a value: at the first crossing, censored where it never does."""

import numpy as np
import pytest

from picolm.errors import PicoLMError
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.reach import Reach, first_reach

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0, 4.0, 2.0, 3.0], Reach(15.0, reached=True)),
        ([5.0, 3.0, 4.0, 3.0], Reach(10.0, reached=True)),
        ([2.0, 5.0, 5.0, 5.0], Reach(0.0, reached=True)),
        ([5.0, 4.0, 4.0, 3.5], Reach(40.0, reached=False)),
        ([5.0, NAN, 2.0, 2.0], Reach(20.0, reached=True)),
        ([5.0, 4.0, NAN, NAN], Reach(40.0, reached=False)),
    ],
)
def test_a_value_is_reached_at_the_first_crossing_of_straight_lines(values: list[float], expected: Reach) -> None:
    assert first_reach(Curve.of([0, 10, 20, 40], values), 3.0) == expected
    assert first_reach(Curve.of([0, 10, 20, 40], -np.array(values)), -3.0, way="up") == expected


def test_what_cannot_be_reached_is_refused() -> None:
    curve = Curve.of([0, 1], [2.0, 1.0])
    with pytest.raises(PicoLMError, match="no way 'dwn' to reach a value; did you mean 'down'"):
        first_reach(curve, 1.5, way="dwn")  # type: ignore[arg-type]
    with pytest.raises(PicoLMError, match="a value to reach must be finite"):
        first_reach(curve, NAN)
