"""Judged predictions: numbers by hand, what is missing, families, interactions, crossed seeds; errors by simulation."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.experiments.synthetic import STEPS, Made, design_of, ending_at, make

from picolm.experiments.assessment import assess
from picolm.experiments.design import PlannedRun
from picolm.experiments.findings import Judged
from picolm.experiments.folder import ExperimentFolder
from picolm.model.size import count_parameters

HOT = [2.9, 2.7, 2.8, 2.6]
COOL = [3.1, 3.2, 3.0, 3.2]


def number(run: PlannedRun) -> int:
    return int(run.repetition.removeprefix("seed"))


def by_hand(run: PlannedRun) -> Made:
    return ending_at((HOT if run.arm == "hot" else COOL)[number(run)])


def primary(folder: ExperimentFolder) -> Judged:
    return assess(folder).judged[0]


def test_the_interval_is_that_of_the_paired_t_test(tmp_path: Path) -> None:
    judged = primary(make(tmp_path / "e", by_hand))
    test = stats.ttest_rel(HOT, COOL)
    low, high = test.confidence_interval(0.95)
    assert judged.verdict is not None and judged.verdict.interval is not None and judged.difference is not None
    assert judged.verdict.interval.low == pytest.approx(low) and judged.verdict.interval.high == pytest.approx(high)
    assert judged.p_value == pytest.approx(test.pvalue) and judged.missing is None
    assert judged.difference.differences == pytest.approx({"seed0": -0.2, "seed1": -0.5, "seed2": -0.2, "seed3": -0.6})
    assert judged.noise is not None and judged.noise.sd == pytest.approx(np.std(COOL, ddof=1))
    # Wholly below -0.1 it is not.
    assert high > -0.1 and judged.verdict.outcome == "inconclusive" and judged.verdict.to_settle is not None


def test_a_run_that_is_not_a_number_a_missing_one_and_one_on_its_way_are_left_out_by_name(tmp_path: Path) -> None:
    def outcome(run: PlannedRun) -> Made | None:
        if run.name == "hot.seed0":
            return Made({0: 5.0, STEPS: math.nan}, training={50: 2.0, 75: math.nan, STEPS: math.nan})
        if run.name == "cool.seed1":
            return None
        if run.name == "hot.seed2":
            return Made({0: 5.0, 50: 0.1}, training={50: 2.0}, until=50)
        return by_hand(run)

    findings = assess(make(tmp_path / "e", outcome, seeds=4))
    judged = findings.judged[0]
    assert judged.difference is not None and judged.verdict is not None and judged.missing is not None
    assert judged.difference.differences == pytest.approx({"seed3": HOT[3] - COOL[3]})
    assert judged.verdict.outcome == "inconclusive" and judged.verdict.interval is None
    left = {one.seed: one.reason for one in judged.difference.dropped}
    assert left == {"seed0": "treatment is nan", "seed1": "baseline is missing", "seed2": "treatment is missing"}
    assert "cool.seed1 (waiting)" in judged.missing and "hot.seed2 (stopped at step 50 of 100)" in judged.missing
    told = " ".join(findings.warnings)
    assert "1 of 8 runs diverged: hot.seed0" in told and "1 of 8 runs did not begin: cool.seed1" in told
    notes = {run.name: run.notes for run in findings.runs}
    assert notes["hot.seed0"] == ("the training loss is not finite from step 75 on",) and notes["cool.seed3"] == ()


def test_before_the_first_run_nothing_is_judged(tmp_path: Path) -> None:
    findings = assess(make(tmp_path / "e", lambda run: None))
    assert findings.judged[0].verdict is None and "hot.seed3 (waiting)" in str(findings.judged[0].missing)
    assert findings.effects == findings.panels == () and not findings.complete
    assert findings.took.flops == findings.took.seconds == findings.took.disk_bytes == 0


SECONDARY = [
    {"measure": {"validation": "loss"}, "direction": "lower", "primary": True},
    {"measure": {"logged": "loss"}, "direction": "lower"},
    {"measure": {"logged": "gradient_norm"}, "direction": "lower"},
    {"measure": {"evaluation": "pairs:blimp", "score": "accuracy"}, "direction": "higher"},
]


def test_the_secondary_predictions_are_one_family_in_which_a_missing_one_counts(tmp_path: Path) -> None:
    def outcome(run: PlannedRun) -> Made:
        return Made(by_hand(run).validation, training={STEPS: by_hand(run).validation[STEPS]})

    main, loss, norm, absent = assess(make(tmp_path / "e", outcome, predictions=SECONDARY)).judged
    assert main.verdict is not None and loss.verdict is not None and norm.verdict is not None
    one_sided = 2 * stats.ttest_rel(HOT, COOL, alternative="less").pvalue
    assert main.verdict.p_supported == pytest.approx(one_sided)
    # Two alike and one of which nothing is known: the smallest p-value counts three times.
    assert loss.verdict.p_supported == norm.verdict.p_supported == pytest.approx(3 * one_sided)
    assert absent.verdict is None and "pairs:blimp" in str(absent.missing)


def sized(predictions: list[dict[str, Any]], seeds: Any = 4) -> dict[str, Any]:
    sizes = {"small": {}, "large": {"model.d_model": 256}}
    return {"sizes": sizes, "predictions": predictions, "seeds": seeds}


GROWS = [{"measure": {"validation": "loss"}, "direction": "lower", "grows": True, "primary": True}]


@pytest.mark.parametrize("vary", [["data"], ["init"]])
def test_an_effect_that_grows_is_a_contrast_of_paired_effects(tmp_path: Path, vary: list[str]) -> None:
    effects = {"small": [-0.1, -0.2, -0.15, -0.12], "large": [-0.5, -0.4, -0.45, -0.6]}

    def outcome(run: PlannedRun) -> Made:
        return ending_at(COOL[number(run)] + (run.arm == "hot") * effects[run.size][number(run)])

    changes = sized(GROWS, {"numbers": 4, "vary": vary})
    judged = primary(make(tmp_path / "e", outcome, **changes))
    assert judged.interaction is not None and judged.verdict is not None
    large, small = np.array(effects["large"]), np.array(effects["small"])
    # The same order of data at both sizes makes pairs; initial weights of two shapes have nothing in common.
    test = stats.ttest_rel(large, small) if vary == ["data"] else stats.ttest_ind(large, small, equal_var=False)
    assert judged.p_value == pytest.approx(test.pvalue) and judged.verdict.outcome == "supported"
    config = {size: design_of(**changes).config("cool", size) for size in effects}
    sizes = [count_parameters(one.model, one.tokenizer.vocab_size).total for one in config.values()]
    assert judged.interaction.sizes == pytest.approx(sizes)


def test_crossed_seeds_count_as_two_factors_and_not_as_nine_replicates(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=2), rng.normal(size=4)
    effects = -1 + a[:, None] + b[None, :] + 0.1 * rng.normal(size=(2, 4))

    def outcome(run: PlannedRun) -> Made:
        seeds = dict(re.findall(r"([a-z]+)(\d)", run.repetition))
        init, data = int(seeds["init"]), int(seeds["data"])
        return ending_at(3 + (effects[init, data] if run.arm == "hot" else 0.0))

    judged = primary(make(tmp_path / "e", outcome, seeds={"data": 4, "init": 2}))
    assert judged.difference is not None
    estimate = judged.difference.estimate
    assert estimate.value == pytest.approx(effects.mean()) and len(judged.difference.differences) == 8
    # Mean squares of the two-way table without replication.
    rows, columns = effects.mean(axis=1), effects.mean(axis=0)
    residual = ((effects - rows[:, None] - columns + effects.mean()) ** 2).sum() / 3
    assert estimate.seeds == 2 and estimate.degrees_of_freedom == 1 and estimate.item_degrees_of_freedom == 3
    assert estimate.seed_error == pytest.approx(rows.std(ddof=1) / math.sqrt(2))
    assert estimate.item_error == pytest.approx(math.sqrt(max(2 * columns.var(ddof=1) - residual, 0) / 8))


# By simulation: one folder whose logs are written anew.


def simulate(folder: ExperimentFolder, draw: Callable[[], dict[str, float]], experiments: int) -> list[tuple[str, ...]]:
    """Outcomes of all predictions in so many experiments; `draw` gives the last loss of each run."""
    found = []
    for _ in range(experiments):
        for name, loss in draw().items():
            lines = [
                {"event": "train", "step": STEPS, "loss": loss, "gradient_norm": loss, "tokens": 1},
                {"event": "validation", "step": STEPS, "loss": loss},
            ]
            (folder.run_path(name) / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        judged = assess(folder).judged
        found.append(tuple(one.verdict.outcome for one in judged if one.verdict is not None))
    return found


def share(outcomes: list[tuple[str, ...]], *which: str) -> float:
    return sum(any(one in which for one in found) for found in outcomes) / len(outcomes)


def at_most(rate: float, n: int) -> float:
    """What a share of n draws exceeds in one of ten thousand cases."""
    return float(stats.binom.ppf(0.9999, n, rate)) / n


EXPERIMENTS = 300


def drawing(design: Any, effect: float, key: int, sd: float = 1.0) -> Callable[[], dict[str, float]]:
    """Losses of runs in which seeds make a shared part, which pairs remove, and one of their own with a spread."""
    rng = np.random.default_rng(key)
    runs = design.comparison()

    def draw() -> dict[str, float]:
        shared = {run.repetition: 5 * rng.normal() for run in runs}
        return {run.name: 50 + shared[run.repetition] + effect * (run.arm == "hot") + sd * rng.normal() for run in runs}

    return draw


@pytest.mark.parametrize("seeds", [3, 5])
def test_an_experiment_of_a_against_a_is_rarely_supported(tmp_path: Path, seeds: int) -> None:
    predictions = [{**one, "smallest": 0.0} for one in SECONDARY[:1]]
    folder = make(tmp_path / "e", lambda run: ending_at(3.0), predictions=predictions, seeds=seeds)
    outcomes = simulate(folder, drawing(folder.design(), 0.0, seeds), EXPERIMENTS)
    assert share(outcomes, "supported") <= at_most(0.025, EXPERIMENTS)
    assert share(outcomes, "supported", "refuted") <= at_most(0.05, EXPERIMENTS)
    assert share(outcomes, "supported", "refuted") > 0.01


@pytest.mark.parametrize("effect", [-2.0, -10.0])
def test_an_effect_at_the_threshold_is_rarely_decided_and_one_well_beyond_is_supported(
    tmp_path: Path, effect: float
) -> None:
    predictions = [{**SECONDARY[0], "smallest": 2.0}]
    folder = make(tmp_path / "e", lambda run: ending_at(3.0), predictions=predictions, seeds=5)
    outcomes = simulate(folder, drawing(folder.design(), effect, 7), EXPERIMENTS // 2)
    if effect == -2.0:
        assert share(outcomes, "supported", "refuted") <= at_most(0.05, EXPERIMENTS // 2)
    else:
        assert share(outcomes, "supported") > 0.99


def test_a_family_of_nulls_is_supported_no_more_often_than_one(tmp_path: Path) -> None:
    predictions = [SECONDARY[0], *SECONDARY[1:3], {**SECONDARY[1], "direction": "higher"}]
    folder = make(tmp_path / "e", lambda run: ending_at(3.0), predictions=predictions, seeds=5)
    outcomes = [found[1:] for found in simulate(folder, drawing(folder.design(), 0.0, 9), EXPERIMENTS)]
    assert share(outcomes, "supported") <= at_most(0.025, EXPERIMENTS)


def test_crossed_seeds_that_do_something_each_do_not_make_nothing_look_like_an_effect(tmp_path: Path) -> None:
    folder = make(tmp_path / "e", lambda run: ending_at(3.0), predictions=SECONDARY[:1], seeds={"init": 3, "data": 3})
    runs, rng = folder.design().comparison(), np.random.default_rng(11)

    def draw() -> dict[str, float]:
        parts = {(run.arm, part): rng.normal() for run in runs for part in run.repetition.split("-")}
        return {
            run.name: 50 + sum(parts[run.arm, part] for part in run.repetition.split("-")) + 0.3 * rng.normal()
            for run in runs
        }

    outcomes = simulate(folder, draw, EXPERIMENTS // 2)
    assert share(outcomes, "supported", "refuted") <= at_most(0.06, EXPERIMENTS // 2)
