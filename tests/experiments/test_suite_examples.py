"""The suite and its studies among the examples: sizes that differ in width alone, and claims about those very runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from picolm.config.difference import difference
from picolm.config.loading import config_hash, load_config
from picolm.experiments.design import Design, base_of
from picolm.experiments.measurable import unmeasured
from picolm.experiments.reading import read_plan

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def design(name: str) -> Design:
    file = EXAMPLES / name
    plan = read_plan(file)
    return Design(plan, base_of(plan, file.parent))


@pytest.mark.parametrize("name", ["suite/suite.yaml", "suite/presets.yaml"])
def test_sizes_differ_in_width_alone_and_what_is_shown_will_be_there(name: str) -> None:
    made = design(name)
    first = made.config(made.plan.control, "")
    for arm in made.plan.treatments:
        own = made.config(arm, "")
        changes = difference(first.model_dump(mode="json"), own.model_dump(mode="json"))
        assert {change.key for change in changes} == {"model.d_model", "model.d_ffn"}
        assert own.model.d_ffn == 4 * own.model.d_model
    assert [unmeasured(one, first, made.plan.analyze) for one in made.plan.show] == [None] * len(made.plan.show)
    # What an early checkpoint is compared with, and where the published recipe looks, is there.
    steps = first.training.steps
    assert {0, steps} <= set(first.capture.up_to(steps))


def test_sizes_at_full_scale_are_the_presets() -> None:
    made = design("suite/presets.yaml")
    for arm in made.plan.arms:
        assert made.config(arm, "").model == load_config(arm).model, arm


def test_claims_about_stability_are_about_the_runs_of_the_suite() -> None:
    suite = {run.name: config_hash(run.config) for run in design("suite/suite.yaml").comparison()}
    assert {run.name: config_hash(run.config) for run in design("stability/plan.yaml").comparison()} == suite
    assert len(suite) == 12


def test_equal_and_tuned_rates_are_asked_the_same() -> None:
    equal, tuned = design("stability/plan.yaml").plan, design("stability/tuned.yaml").plan
    assert (equal.claim, equal.arms, equal.analyze, equal.predictions) == (
        tuned.claim,
        tuned.arms,
        tuned.analyze,
        tuned.predictions,
    )
    assert len(design("stability/tuned.yaml").search()) == 12


def test_predictions_name_steps_that_are_kept_and_a_probe_that_is_there() -> None:
    made = design("stability/plan.yaml")
    config, predictions = made.config("w32", ""), made.plan.predictions
    kept = set(config.checkpoints.model.up_to(config.training.steps))
    assert {one.measure.at for one in predictions if one.measure.at is not None} == {config.training.steps // 5}
    assert {one.measure.at for one in predictions if one.measure.at is not None} <= kept
    assert (EXAMPLES.parent / str(made.plan.analyze[0].probe)).name == "probe.txt"
    assert (EXAMPLES.parent / str(made.plan.analyze[0].probe)).is_file()
    asked = {name for one in made.plan.analyze for name in one.metrics}
    assert {one.measure.metric for one in predictions} <= asked
