"""Findings made by hand: an experiment whose numbers are known, and a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from picolm.experiments.findings import Cost, Effect, Findings, Judged, PlanVersion, RunRecord
from picolm.experiments.plan import Plan
from picolm.experiments.quantity import Number
from picolm.experiments.statistics.differences import paired_difference
from picolm.experiments.statistics.noise import noise_floor
from picolm.experiments.statistics.verdict import Claim, verdict_of

LOSS = "final validation loss"
DIGEST = "ab" * 32
PLAIN = {0: 3.00, 1: 3.10, 2: 2.95, 3: 3.05}
SMOOTHED = {0: 3.21, 1: 3.29, 2: 3.17, 3: 3.25}
PLAN: dict[str, Any] = {
    "experiment": 1,
    "name": "smoothing",
    "claim": "Smoothed targets make loss worse.",
    "base": "demo",
    "arms": {"plain": {}, "smoothed": {"with": ("label_smoothing alpha=0.1",)}},
    "seeds": 4,
    "predictions": (
        {"measure": {"validation": "loss"}, "direction": "higher", "smallest": 0.05, "primary": True},
        {"measure": {"logged": "gradient_norm"}, "direction": "lower", "smallest": 0.02},
    ),
}


def findings(
    *, direction: str = "higher", versions: Sequence[PlanVersion] = (PlanVersion(DIGEST, "2026-02-01", (), 0),)
) -> Findings:
    """An experiment of four seeds whose smoothed arm has a loss that is 0.2 higher."""
    predictions = ({**PLAN["predictions"][0], "direction": direction}, PLAN["predictions"][1])
    plan = Plan.model_validate({**PLAN, "predictions": predictions})
    noise = noise_floor(PLAIN)
    difference = paired_difference(SMOOTHED, PLAIN, noise=noise)
    first, second = plan.predictions
    verdict = verdict_of(Claim(LOSS, difference.estimate, first.direction, first.smallest))
    return Findings(
        plan=plan,
        versions=tuple(versions),
        differs={"plain": {}, "smoothed": {"interventions": ([], ["label_smoothing"])}},
        runs=_records({"plain": list(PLAIN.values()), "smoothed": list(SMOOTHED.values())}),
        search=(),
        choices={},
        judged=(
            Judged(first, "smoothed", "plain", verdict, difference.estimate.p_value(), difference, noise=noise),
            Judged(second, "smoothed", "plain", None, missing="no run has it"),
        ),
        effects=(
            Effect(LOSS, "plain", "", noise, None, True),
            Effect(LOSS, "smoothed", "", noise, difference, True),
        ),
        panels=(),
        warnings=("4 seeds are few",),
        lineage=None,
        forecast=None,
        took=Cost(1.5e12, 61.25, 3_000_000),
    )


def sweep_findings() -> Findings:
    """A sweep of three points of two seeds, of which the second is best, and the third not told from it."""
    sweep = {"list": ({"model.d_ffn": 64}, {"model.d_ffn": 128}, {"model.qk_norm": None})}
    plan = Plan.model_validate({"experiment": 1, "name": "widths", "base": "demo", "sweep": sweep, "seeds": 2})
    return Findings(
        plan=plan,
        versions=(PlanVersion(DIGEST, "2026-02-01", (), 0),),
        differs={"p001": {"model.d_ffn": (384, 64)}},
        runs=_records({"p001": [3.5, 3.51], "p002": [3.0, 3.01], "p003": [3.0, 3.3]}),
        search=(),
        choices={},
        judged=(),
        effects=(Effect(LOSS, "p001", "", noise_floor({0: 3.5, 1: 3.51}), None, False),),
        panels=(),
        warnings=(),
        lineage=None,
        forecast=None,
        took=Cost(1e12, 60.0, 10),
    )


def _records(table: dict[str, list[float]]) -> tuple[RunRecord, ...]:
    return tuple(
        RunRecord(f"{arm}.seed{n}", arm, "", f"seed{n}", "finished", 9, 9, None, {LOSS: Number(value)})
        for arm, values in table.items()
        for n, value in enumerate(values)
    )
