"""Values by seed: what is kept is what all have, what is left out is named, and rounding is no spread."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.experiments.statistics.seeds import matched, mean_over_seeds

numbers = st.one_of(st.floats(-5, 5), st.sampled_from([math.nan, math.inf]))
series = st.dictionaries(st.integers(0, 6), numbers, max_size=7)


@given(series, series)
def test_every_seed_is_kept_or_named(one: dict[int | str, float], other: dict[int | str, float]) -> None:
    whole = [seed for seed in one if math.isfinite(one[seed]) and math.isfinite(other.get(seed, math.nan))]
    if not whole:
        with pytest.raises(PicoLMError, match="no seed has a finite value of one and other"):
            matched({"one": one, "other": other})
        return
    found = matched({"one": one, "other": other})
    assert list(found.seeds) == whole
    assert {left.seed for left in found.dropped} == (set(one) | set(other)) - set(whole)
    assert found.values.tolist() == [[one[seed] for seed in whole], [other[seed] for seed in whole]]


def test_an_error_names_five_seeds_at_most() -> None:
    with pytest.raises(PicoLMError) as raised:
        matched({"baseline": dict.fromkeys(range(100), math.nan)})
    assert str(raised.value).count("baseline is nan") == 5 and "95 more" in str(raised.value)


def test_the_standard_error_is_that_of_a_mean_and_rounding_is_none() -> None:
    values = np.array([1.0, 2.0, 4.0])
    assert mean_over_seeds(values) == (pytest.approx(7 / 3), pytest.approx(np.std(values, ddof=1) / math.sqrt(3)))
    assert mean_over_seeds(values[:1]) == (1.0, None)
    close = np.array([1e-16, 2e-16])
    assert mean_over_seeds(close)[1] == pytest.approx(5e-17) and mean_over_seeds(close, scale=1.0)[1] == 0.0
