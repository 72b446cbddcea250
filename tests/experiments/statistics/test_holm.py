"""Holm's correction: that of statsmodels, and levels that agree with what was rejected."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.experiments.statistics.holm import holm

FROZEN = json.loads((Path(__file__).parents[1] / "fixtures" / "statistics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", FROZEN["holm"])
def test_it_is_that_of_statsmodels(case: dict[str, list[float]]) -> None:
    steps = holm(case["p"], alpha=0.05)
    assert [step.rejected for step in steps] == case["rejected"]
    assert [step.adjusted for step in steps] == pytest.approx(case["adjusted"])


@given(st.lists(st.floats(0, 1), max_size=8), st.sampled_from([0.05, 0.2]))
def test_what_is_rejected_has_a_p_value_within_its_level_and_an_adjusted_one_within_alpha(
    p_values: list[float], alpha: float
) -> None:
    for p, step in zip(p_values, holm(p_values, alpha=alpha), strict=True):
        assert step.rejected == (p <= step.level)
        assert alpha / len(p_values) <= step.level <= alpha
        if abs(step.adjusted - alpha) > 1e-12:
            assert step.rejected == (step.adjusted <= alpha)


def test_what_is_no_p_value_is_refused() -> None:
    with pytest.raises(PicoLMError, match="a p-value lies from 0 to 1, not at nan"):
        holm([0.1, float("nan")])
