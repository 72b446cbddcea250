"""Curves of runs: summaries in closed form, axes through several attempts, and the past of forks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.experiments.synthetic import FLOPS_PER_TOKEN, STEPS, TOKENS_PER_STEP, Made, design_of, write_run

from picolm.errors import PicoLMError
from picolm.experiments.curves import RunCurves
from picolm.experiments.quantity import Number, Quantity
from picolm.runs.evaluations import Evaluated, Part
from picolm.runs.tables import Measured, write_metrics

LOSS = {"validation": "loss"}
CURVE = {0: 5.0, 25: 4.0, 50: 3.5, STEPS: 3.0}


def quantity(**keys: Any) -> Quantity:
    return Quantity.model_validate(keys)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    config = design_of().base.model_dump(mode="json")
    config["training"]["steps"] = STEPS
    training = {step: 6.0 - step / 50 for step in range(1, STEPS + 1)}
    # A kill after step 60 took the run back to 50.
    clock = [(20, 2.0), (40, 4.0), (60, 6.0), (70, 3.0), (STEPS, 6.0)]
    write_run(tmp_path / "run", config, Made(CURVE, training, seconds=clock))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ({}, 3.0),
        ({"at": 25}, 4.0),
        ({"summary": "mean"}, 15.5 / 4),
        ({"summary": "minimum"}, 3.0),
        ({"summary": "maximum"}, 5.0),
        ({"summary": "descent"}, 2.0),
        # Trapezoids: 25 (4.5 + 3.75) + 50 3.25, over 100 steps.
        ({"summary": "area"}, (25 * 8.25 + 50 * 3.25) / 100),
        ({"summary": "area", "over": "flops"}, (25 * 8.25 + 50 * 3.25) / 100),
        ({"reaches": 3.75}, 37.5),
        ({"reaches": 3.75, "over": "tokens"}, 37.5 * TOKENS_PER_STEP),
        ({"reaches": 3.75, "over": "flops"}, 37.5 * TOKENS_PER_STEP * FLOPS_PER_TOKEN),
    ],
)
def test_numbers_are_those_by_hand(run: Path, keys: dict[str, Any], value: float) -> None:
    found = RunCurves(run).number(quantity(**LOSS, **keys))
    assert found.value == pytest.approx(value) and not found.censored


def test_a_descent_is_of_the_falls_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "run", design_of().base.model_dump(mode="json"), Made({0: 1.0, 25: 4.0, 50: 2.5, STEPS: 2.25}))
    steady = {0: 1.0, 25: 4.0, STEPS: 4.0}
    write_run(tmp_path / "steady", design_of().base.model_dump(mode="json"), Made(steady))
    found = [RunCurves(tmp_path / name).number(quantity(**LOSS, summary="descent")) for name in ("run", "steady")]
    assert found == [Number(1.75), Number(0.0)]


def test_a_slope_is_that_of_the_least_squares_line(run: Path) -> None:
    slope = quantity(logged="loss", summary="slope", over="tokens")
    assert RunCurves(run).number(slope).value == pytest.approx(-1 / 50 / TOKENS_PER_STEP)


def test_a_value_that_is_never_reached_is_censored_at_the_end(run: Path) -> None:
    assert RunCurves(run).number(quantity(**LOSS, reaches=2.0)) == Number(float(STEPS), censored=True)
    assert RunCurves(run).number(quantity(**LOSS, reaches=5.0)) == Number(0.0)


def test_perplexity_follows_from_the_loss_however_large_it_is(run: Path) -> None:
    assert RunCurves(run).number(quantity(validation="perplexity")).value == pytest.approx(math.exp(3))
    log = run / "log.jsonl"
    log.write_text(log.read_text().replace('"loss": 3.0}', '"loss": 5000.0}'))
    assert RunCurves(run).number(quantity(validation="perplexity")).value == math.inf


def test_seconds_are_of_all_attempts_with_the_work_that_was_lost(run: Path) -> None:
    curves = RunCurves(run)
    # The second attempt began at 6 s; step 60 of the first one was taken back.
    assert curves.axis("seconds", [20, 40, 70, STEPS]) == pytest.approx([2, 4, 9, 12])
    assert curves.axis("seconds", [0, 10]) == pytest.approx([0, 1])
    curve = curves.curve(quantity(**LOSS), "seconds")
    assert curve.x[[0, -1]] == pytest.approx([0, 12]) and curve.y[[0, -1]] == pytest.approx([5, 3])


def test_what_is_not_there_is_named_with_what_is(run: Path) -> None:
    curves = RunCurves(run)
    for keys, told in [
        ({**LOSS, "at": 30}, r"at step 30; it has it at: 0, 25, 50, 100"),
        ({"logged": "los"}, r"has no 'los'; did you mean 'loss'"),
        ({"validation": "bits_per_byte"}, r"gives no bits_per_byte"),
        ({"evaluation": "pairs:x", "score": "accuracy"}, r"no evaluation of task 'pairs:x'"),
        ({"metric": "per", "site": "hidden"}, r"no metric 'per'"),
    ]:
        with pytest.raises(PicoLMError, match=told):
            curves.number(quantity(**keys))


def test_evaluations_and_metrics_come_from_their_tables(run: Path) -> None:
    for step, value in ((50, 60.0), (STEPS, 70.0)):
        rows = [Evaluated(step, "pairs:x", "all", "accuracy", value, None, 10)]
        Part(run / "eval", step, "pairs", {"label": "pairs:x"}).write(rows, {"model": "0"})
    sites = [Measured(STEPS, "per", f"layers.{n}.mlp", n, None, None, float(n)) for n in range(4)]
    write_metrics(run / "metrics" / "a.parquet", sites)
    curves = RunCurves(run)
    assert curves.number(quantity(evaluation="pairs:x", score="accuracy")).value == 70.0
    assert curves.number(quantity(metric="per", site="layers.*.mlp")).value == pytest.approx(1.5)
    assert curves.number(quantity(metric="per", site="layers.3.mlp", at=STEPS)).value == 3.0


def test_one_checkpoint_with_two_figures_of_one_name_is_refused(run: Path) -> None:
    for data in ("a", "b"):
        rows = [Evaluated(STEPS, "pairs:x", "all", "accuracy", 1.0, None, 10)]
        Part(run / "eval", STEPS, "pairs", {"label": "pairs:x", "data": data}).write(rows, {"model": "0"})
    with pytest.raises(PicoLMError, match="evaluated twice at step 100"):
        RunCurves(run).number(quantity(evaluation="pairs:x", score="accuracy"))


@pytest.fixture
def fork(run: Path) -> Path:
    parent = RunCurves(run).run.identity
    lineage = {"name": "run", "path": "../run", "step": 50, "config_hash": parent["config_hash"]}
    training = {step: 4.0 - step / 100 for step in range(51, STEPS + 1)}
    made = Made({75: 2.5, STEPS: 2.0}, training, seconds=[(75, 1.0), (STEPS, 2.0)])
    write_run(run.parent / "fork", parent["config"], made, lineage)
    return run.parent / "fork"


def test_a_fork_has_a_past_and_a_curve_of_its_own_that_meet_where_it_was_branched(fork: Path) -> None:
    curves = RunCurves(fork)
    past = curves.past(quantity(**LOSS))
    assert past is not None and past.x.tolist() == [0, 25, 50] and past.y.tolist() == [5, 4, 3.5]
    own = curves.curve(quantity(**LOSS))
    assert own.x.tolist() == [50, 75, STEPS] and own.y.tolist() == [3.5, 2.5, 2.0]
    stitched = curves.stitched(quantity(**LOSS))
    assert stitched.x.tolist() == [0, 25, 50, 75, STEPS] and stitched.y.tolist() == [5, 4, 3.5, 2.5, 2.0]


def test_axes_of_a_fork_count_on_from_its_parent(fork: Path, run: Path) -> None:
    curves, parent = RunCurves(fork), RunCurves(run)
    assert curves.axis("tokens", [50, 75]) == pytest.approx([50 * TOKENS_PER_STEP, 75 * TOKENS_PER_STEP])
    assert curves.axis("flops", [75]) == pytest.approx([75 * TOKENS_PER_STEP * FLOPS_PER_TOKEN])
    begun = parent.axis("seconds", [50])[0]
    assert curves.axis("seconds", [50, 75, STEPS]) == pytest.approx([begun, begun + 1, begun + 2])


def test_summaries_of_a_fork_are_of_its_own_steps_and_what_it_reached_may_be_past(fork: Path) -> None:
    curves = RunCurves(fork)
    assert curves.number(quantity(**LOSS, summary="maximum")).value == 2.5
    assert curves.number(quantity(**LOSS, reaches=4.0)).value == 25.0
    assert curves.number(quantity(**LOSS, reaches=3.0)).value == pytest.approx(62.5)
    assert curves.number(quantity(**LOSS, summary="area")).value == pytest.approx((25 * 3.0 + 25 * 2.25) / 50)


def test_a_fork_whose_parent_is_gone_has_its_own_curve_alone(fork: Path, run: Path) -> None:
    run.rename(run.parent / "elsewhere")
    curves = RunCurves(fork)
    assert curves.past(quantity(**LOSS)) is None and curves.curve(quantity(**LOSS)).x.tolist() == [75, STEPS]
    assert curves.axis("tokens", [75]) == [75 * TOKENS_PER_STEP]
