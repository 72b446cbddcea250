"""An experiment of two arms, two sizes and five seeds as values, computed by the statistics themselves."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from picolm.experiments.findings import (
    Cost,
    CurvePanel,
    Effect,
    Findings,
    Judged,
    PlanVersion,
    RunRecord,
)
from picolm.experiments.plan import Plan
from picolm.experiments.quantity import Number, Quantity
from picolm.experiments.statistics.area import area_between
from picolm.experiments.statistics.bands import difference_band, mean_band
from picolm.experiments.statistics.crossed import crossed_difference
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.differences import PairedDifference, paired_difference
from picolm.experiments.statistics.interaction import interaction
from picolm.experiments.statistics.noise import noise_floor
from picolm.experiments.statistics.reach import Reach
from picolm.experiments.statistics.survival import compare_reach
from picolm.experiments.statistics.verdict import Claim, Verdict, verdict_of, verdicts_of

SEEDS = tuple(f"seed{n}" for n in range(5))
STEPS = np.arange(0, 2001, 100)
PARAMETERS = {"tiny": 11_282_784, "small": 64_600_000}
LOSS = "final validation loss"
NORM = "mean training gradient norm"
REACHES = "tokens until validation loss reaches 3.5"
ACCURACY = "accuracy of pairs:blimp"
DIGEST = "5be1a0f1c4d27b33" * 4


def plan_of(seeds: int = 5, **changes: Any) -> Plan:
    values = {
        "experiment": 1,
        "name": "warm-start",
        "claim": "A slower warm-up makes a small model learn faster, the more so the larger it is.",
        "base": "demo",
        "arms": {"cold": {}, "warm": {"set": {"schedule.warmup_steps": 400}}},
        "sizes": {"tiny": {}, "small": {}},
        "seeds": seeds,
        "equal": "tokens",
        "tune": {"grid": {"optimizer.learning_rate": [0.001, 0.003]}},
        "predictions": [
            {
                "says": "Held-out text is less of a surprise.",
                "measure": {"validation": "loss"},
                "direction": "lower",
                "smallest": 0.02,
                "size": "small",
                "primary": True,
            },
            {
                "measure": {"logged": "gradient_norm", "summary": "mean"},
                "direction": "same",
                "smallest": 0.02,
                "size": "small",
            },
            {
                "measure": {"validation": "loss", "reaches": 3.5, "over": "tokens"},
                "direction": "lower",
                "smallest": 0.05,
                "size": "small",
            },
            {"measure": {"evaluation": "pairs:blimp", "score": "accuracy"}, "direction": "higher", "size": "small"},
            {"measure": {"validation": "loss"}, "direction": "lower", "smallest": 0.01, "grows": True},
        ],
        **changes,
    }
    return Plan.model_validate(values)


def height(arm: str, size: str, seed: int, steps: Any) -> Any:
    """A learning curve; the treatment is lower by 0.06, at the smaller size by 0.03."""
    floor = {"tiny": 3.4, "small": 3.1}[size] + 0.02 * math.sin(9 * seed + len(size))
    gain = {"tiny": 0.03, "small": 0.06}[size] * (arm == "warm") * (1 + 0.2 * math.sin(5 * seed))
    return floor - gain * np.minimum(steps / 800, 1) + 5.2 * np.exp(-steps / 320) + 0.01 * np.sin(seed + steps / 60)


def curve(arm: str, size: str, seed: int) -> Curve:
    return Curve.of(STEPS, height(arm, size, seed, STEPS.astype(float)))


def numbers_of(arm: str, size: str, seed: int) -> dict[str, Number]:
    found = {
        LOSS: Number(float(height(arm, size, seed, 2000.0))),
        NORM: Number(0.81 + 0.03 * math.sin(3 * seed) + 0.004 * math.sin(7 * seed) * (arm == "warm")),
    }
    if size == "small":
        found[ACCURACY] = Number(float(scores(arm, seed).mean()))
        censored = seed == 3 and arm == "cold"
        found[REACHES] = Number(
            65_536_000 if censored else 3.1e7 + 2e6 * math.sin(seed) - 3e6 * (arm == "warm"), censored
        )
    return found


def scores(arm: str, seed: int) -> Any:
    source = np.random.default_rng(seed)
    items = np.random.default_rng(77).normal(0, 0.15, 120)
    return (
        0.65
        + items
        + source.normal(0, 0.08, 120)
        + (arm == "warm") * (0.01 + source.normal(0, 0.02, 120) + 0.2 * items)
    )


def run_records() -> list[RunRecord]:
    found = []
    for seed, name in enumerate(SEEDS):
        for size in PARAMETERS:
            for arm in ("cold", "warm"):
                cost = Cost(8.1e14, 312.0, 45_131_000)
                record = RunRecord(
                    f"{arm}.{size}.{name}", arm, size, name, "finished", 2000, 2000, cost, numbers_of(arm, size, seed)
                )
                if (seed, size, arm) == (4, "tiny", "warm"):
                    note = "ended with code 1: the loss was not finite at step 340"
                    record = replace(record, state="failed", steps=340, values={}, notes=(note,))
                found.append(record)
    return found


def values(records: list[RunRecord], words: str, arm: str, size: str) -> dict[str, float]:
    return {
        run.repetition: run.values[words].value
        for run in records
        if (run.arm, run.size) == (arm, size) and words in run.values
    }


def paired(records: list[RunRecord], words: str, size: str) -> PairedDifference:
    baseline = values(records, words, "cold", size)
    return paired_difference(values(records, words, "warm", size), baseline, noise=noise_floor(baseline))


def judged_of(plan: Plan, records: list[RunRecord]) -> tuple[Judged, ...]:
    loss, norm, reaches, accuracy, grows = plan.predictions
    first = paired(records, LOSS, "small")
    second = paired(records, NORM, "small")
    items = crossed_difference(
        {seed: scores("warm", n) for n, seed in enumerate(SEEDS)},
        {seed: scores("cold", n) for n, seed in enumerate(SEEDS)},
    )
    by_size = {float(parameters): paired(records, LOSS, size).differences for size, parameters in PARAMETERS.items()}
    trend = interaction(by_size, same_seeds=True)
    reach = compare_reach(*(reaches_of(records, arm) for arm in ("warm", "cold")))
    family = verdicts_of(
        [
            Claim(NORM, second.estimate, "same", norm.smallest),
            Claim(ACCURACY, items.estimate, "higher", accuracy.smallest),
            Claim(LOSS, trend.estimate, "lower", grows.smallest),
        ]
    )
    primary = verdict_of(Claim(LOSS, first.estimate, "lower", loss.smallest))
    floor = noise_floor(values(records, LOSS, "cold", "small"))
    missing = "warm.tiny.seed4 failed, so seed4 is not in it"
    return (
        _judged(loss, primary, difference=first, noise=floor),
        _judged(norm, family[0], difference=second),
        _judged(
            reaches, None, reach=reach, p_value=reach.p_value, scale="log ratio", missing="one run never reached 3.5"
        ),
        _judged(accuracy, family[1], difference=paired(records, ACCURACY, "small"), items=items),
        _judged(grows, family[2], interaction=trend, missing=missing),
    )


def reaches_of(records: list[RunRecord], arm: str) -> dict[str, Reach]:
    return {
        run.repetition: Reach(run.values[REACHES].value, not run.values[REACHES].censored)
        for run in records
        if run.arm == arm and REACHES in run.values
    }


def _judged(prediction: Any, verdict: Verdict | None, **more: Any) -> Judged:
    p_value = verdict.claim.estimate.p_value() if verdict else None
    return Judged(prediction, "warm", "cold", verdict, **{"p_value": p_value, **more})


def panel_of(size: str) -> CurvePanel:
    runs = {arm: {seed: curve(arm, size, n) for n, seed in enumerate(SEEDS)} for arm in ("cold", "warm")}
    area = area_between(runs["warm"], runs["cold"])
    length = float(STEPS[-1] - STEPS[0])
    scaled = paired_difference(
        {seed: value / length for seed, value in area.differences.items()}, dict.fromkeys(area.differences, 0.0)
    )
    return CurvePanel(
        quantity=Quantity(validation="loss"),
        words="validation loss",
        size=size,
        over="steps",
        runs=runs,
        bands={arm: mean_band(curves) for arm, curves in runs.items()},
        differences={"warm": difference_band(runs["warm"], runs["cold"])},
        areas={"warm": scaled},
    )


def rich_findings() -> Findings:
    plan, records = plan_of(), run_records()
    effects = []
    for size in PARAMETERS:
        for words in (LOSS, NORM):
            noise = noise_floor(values(records, words, "cold", size))
            predicted = size == "small"
            effects.append(Effect(words, "cold", size, noise, None, predicted))
            effects.append(Effect(words, "warm", size, noise, paired(records, words, size), predicted))
    cost = Cost(1.6e15, 6240.0, 902_620_000)
    return Findings(
        plan=plan,
        versions=(
            PlanVersion("c0ffee00aa11bb22" * 4, "2026-11-25T09:12:44+00:00", (), 0),
            PlanVersion(DIGEST, "2026-11-25T11:40:02+00:00", ("predictions.0.smallest was 0.05 and is 0.02",), 7),
        ),
        differs={
            "warm.tiny": {"schedule.warmup_steps": (100, 400)},
            "warm.small": {"schedule.warmup_steps": (100, 400)},
        },
        runs=tuple(records),
        search=(),
        choices={"cold.small": {"optimizer.learning_rate": 0.003}, "warm.small": {"optimizer.learning_rate": 0.001}},
        judged=judged_of(plan, records),
        effects=tuple(effects),
        panels=tuple(panel_of(size) for size in PARAMETERS),
        warnings=("5 seeds tell an effect of 0.02 only where pairs differ by less than 0.012",),
        lineage=None,
        forecast=Cost(1.5e15, 7200.0, 880_000_000),
        took=cost,
    )


@pytest.fixture
def findings() -> Findings:
    """Five predictions of which one is not judged, a run that failed, one that is censored, a changed plan."""
    return rich_findings()


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    """The same plan with changes."""
    return plan_of
