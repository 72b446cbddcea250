"""Predictions about when a value is reached: ratios, shares, and runs that never got there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.experiments.synthetic import STEPS, Made, design_of, make

from picolm.errors import PicoLMError
from picolm.experiments.assessment import assess
from picolm.experiments.design import PlannedRun
from picolm.experiments.findings import Judged
from picolm.experiments.quantity import Number
from picolm.experiments.reaching import bounds, log_margin

REACHES = {"measure": {"validation": "loss", "reaches": 4.0}, "direction": "lower", "smallest": 0.1, "primary": True}


def crossing(step: float | None) -> Made:
    """A run whose straight line from 5 crosses 4 at a step; None: never."""
    return Made({0: 5.0, STEPS: 4.5 if step is None else 5.0 - STEPS / step})


def judged(folder: Path, hot: list[float | None], cool: list[float | None], **changes: Any) -> Judged:
    def outcome(run: PlannedRun) -> Made:
        return crossing((hot if run.arm == "hot" else cool)[int(run.repetition.removeprefix("seed"))])

    prediction = {**REACHES, **changes}
    return assess(make(folder, outcome, predictions=[prediction], seeds=len(hot))).judged[0]


def test_ratios_of_steps_are_compared_on_a_log_scale_with_shares_as_margins(tmp_path: Path) -> None:
    hot, cool = [40.0, 42.0, 39.0, 41.0], [80.0, 82.0, 79.0, 84.0]
    found = judged(tmp_path / "e", hot, cool)
    ratios = np.log(np.array(hot) / np.array(cool))
    assert found.difference is not None and found.verdict is not None and found.reach is not None
    assert list(found.difference.differences.values()) == pytest.approx(ratios.tolist())
    assert found.p_value == pytest.approx(stats.ttest_1samp(ratios, 0).pvalue) and found.scale == "log ratio"
    assert found.verdict.claim.smallest_effect == pytest.approx(-math.log(0.9))
    assert found.verdict.outcome == "supported" and found.reach.earlier == 4 and found.missing is None


@pytest.mark.parametrize(("factor", "outcome"), [(0.90, "refuted"), (0.70, "supported")])
def test_the_margin_of_a_fifth_sooner_is_that_share_of_the_steps(tmp_path: Path, factor: float, outcome: str) -> None:
    cool = [80.0, 60.0, 70.0]
    noisy = [step * factor * shift for step, shift in zip(cool, (1.0, 1.01, 0.99), strict=True)]
    found = judged(tmp_path / "e", list(noisy), list(cool), smallest=0.2)
    assert found.verdict is not None and found.verdict.outcome == outcome


def test_later_and_as_soon_have_their_margins_too() -> None:
    assert log_margin("lower", 0.2) == pytest.approx(math.log(1 / 0.8))
    assert log_margin("higher", 0.2) == log_margin("same", 0.2) == pytest.approx(math.log(1.2))
    with pytest.raises(PicoLMError, match="is a share, such as"):
        design_of(predictions=[{**REACHES, "smallest": 20}])


def test_where_the_baseline_never_got_there_all_pairs_must_agree(tmp_path: Path) -> None:
    never: list[float | None] = [None, None, None, None, None, 90.0]
    found = judged(tmp_path / "a", [40.0] * 6, never)
    assert found.verdict is not None and found.reach is not None and found.difference is None
    # Six pairs that agree: 2 / 2^6; each says more than 10 % sooner, whatever the censored runs would have done.
    assert found.verdict.outcome == "supported" and found.verdict.p_supported == pytest.approx(2 / 64)
    assert found.p_value == found.reach.p_value and "never reached the value" in str(found.missing)
    # Five are too few, and one that does not agree is one too many.
    fewer = judged(tmp_path / "b", [40.0] * 5, never[:5])
    other = judged(tmp_path / "c", [40.0] * 5 + [95.0], never)
    for one in (fewer, other):
        assert one.verdict is not None and one.verdict.outcome == "inconclusive" and one.verdict.interval is None
        assert "longer runs" in str(one.verdict.to_settle)


def test_where_the_treatment_never_got_there_sooner_is_refuted(tmp_path: Path) -> None:
    for direction, outcome in (("lower", "refuted"), ("higher", "supported")):
        found = judged(tmp_path / direction, [None] * 6, [40.0] * 6, direction=direction)
        assert found.verdict is not None and found.verdict.outcome == outcome


def test_pairs_are_bounded_by_what_their_runs_tell() -> None:
    treatment = {"a": Number(50.0), "b": Number(50.0), "c": Number(100.0, True), "d": Number(100.0, True)}
    baseline = {"a": Number(100.0), "b": Number(100.0, True), "c": Number(50.0), "d": Number(100.0, True)}
    half = math.log(0.5)
    told = [(half, half), (-math.inf, half), (-half, math.inf), (-math.inf, math.inf)]
    assert np.array(bounds(treatment, baseline)) == pytest.approx(np.array(told))
    assert bounds({"a": Number(0.0)}, {"a": Number(3.0, True)}) == [(-math.inf, -math.inf)]
    assert bounds({"a": Number(0.0)}, {"a": Number(0.0)}) == [(-math.inf, math.inf)]
