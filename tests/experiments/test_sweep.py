"""Sweeps: the points that each kind stands for, the runs that they become, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from picolm.errors import PicoLMError
from picolm.experiments.costing import Costing
from picolm.experiments.design import Design, base_of
from picolm.experiments.folder import ExperimentFolder, plan_digest
from picolm.experiments.outline import Outline
from picolm.experiments.plan import Plan
from picolm.experiments.reading import parse_plan

RATE = "optimizer.learning_rate"
RANGE = {"low": 1e-4, "high": 1e-2, "log": True}


def plan(sweep: Any, **changes: Any) -> Plan:
    values = {"experiment": 1, "base": "demo", "sweep": sweep, "seeds": 2, **changes}
    return parse_plan(yaml.safe_dump(values, sort_keys=False), origin="plan.yaml", name="plan")


def design(sweep: Any, **changes: Any) -> Design:
    found = plan(sweep, **changes)
    return Design(found, base_of(found, Path()))


def test_a_grid_is_every_combination_in_order() -> None:
    made = design({"grid": {RATE: [0.001, 0.002], "model.d_ffn": [128, 256, 512]}})
    points = [(arm.set[RATE], arm.set["model.d_ffn"]) for arm in made.plan.arms.values()]
    assert points == [(rate, width) for rate in (0.001, 0.002) for width in (128, 256, 512)]
    assert list(made.plan.arms) == [f"p00{n}" for n in range(1, 7)] and made.plan.sweep is not None
    runs = made.comparison()
    assert [run.name for run in runs[:7]] == [*(f"p00{n}.seed0" for n in range(1, 7)), "p001.seed1"]
    assert [(run.config.optimizer.learning_rate, run.config.model.d_ffn) for run in runs[:6]] == points


def test_a_list_may_name_other_keys_at_each_point() -> None:
    listed = [{RATE: 0.001}, {"optimizer.kind": "muon"}, {"model": {"d_ffn": 128}}]
    made = design({"list": listed}, sizes={"s": {}, "l": {"model.n_layers": 6}})
    runs = {run.name: run.config for run in made.comparison()}
    assert runs["p001.s.seed0"].optimizer.learning_rate == 0.001
    assert runs["p002.l.seed1"].optimizer.kind == "muon" and runs["p002.l.seed1"].model.n_layers == 6
    assert runs["p003.l.seed0"].model.d_ffn == 128
    assert made.plan.sweep is not None and made.plan.sweep.keys == [RATE, "optimizer.kind", "model"]


def test_more_trials_leave_earlier_points_and_their_names_as_they_were() -> None:
    space = {RATE: RANGE, "model.d_ffn": [128, 256]}
    few, many = (plan({"random": space, "trials": n, "seed": 3}) for n in (4, 12))
    assert list(few.arms.items()) == list(many.arms.items())[:4] and len(many.arms) == 12


def test_a_stored_sweep_is_read_as_it_was(tmp_path: Path) -> None:
    grid = {"grid": {RATE: [0.002, 0.001], "model.d_ffn": [256, 128]}}
    for sweep in (
        grid,
        {"random": {RATE: RANGE}, "trials": 3},
        {"optuna": {RATE: RANGE}, "trials": 3, "sampler": "tpe"},
    ):
        made = design(sweep)
        folder = ExperimentFolder(tmp_path / next(iter(sweep)))
        assert folder.register(made, "text") and not folder.register(made, "text")
        assert folder.design().plan == made.plan and plan_digest(folder.design()) == plan_digest(made)


def test_proposed_points_are_no_change_of_the_plan(tmp_path: Path) -> None:
    made = design({"optuna": {RATE: RANGE}, "trials": 3})
    folder = ExperimentFolder(tmp_path / "s")
    assert folder.register(made, "text")
    digest = folder.versions()[-1].digest
    folder.trials.propose([{RATE: 0.005}, {RATE: 0.001}])
    opened = folder.design()
    assert [run.name for run in opened.comparison()] == [f"p00{p}.seed{n}" for n in (0, 1) for p in (1, 2)]
    assert [arm.set for arm in opened.plan.arms.values()] == [{RATE: 0.005}, {RATE: 0.001}]
    # Neither what was proposed nor what stands in for it in a forecast makes another plan.
    stand_ins = Design(made.plan.with_points([{RATE: 0.009}]), made.base)
    assert not folder.register(opened, "text") and not folder.register(stand_ins, "text")
    assert plan_digest(opened) == digest


def test_points_that_were_proposed_are_arms_too() -> None:
    made = design({"optuna": {RATE: RANGE}, "trials": 3})
    assert made.plan.arms == {} and made.comparison() == []
    proposed = Design(made.plan.with_points([{RATE: 0.005}]), made.base)
    assert [(run.name, run.config.optimizer.learning_rate) for run in proposed.comparison()] == [
        ("p001.seed0", 0.005),
        ("p001.seed1", 0.005),
    ]


def test_how_long_to_train_may_be_what_a_sweep_asks() -> None:
    made = design({"grid": {"training.steps": [100, 200]}})
    assert [made.config(arm, "").training.steps for arm in made.plan.arms] == [100, 200]
    with pytest.raises(PicoLMError, match=r"the point training\.steps=100 trains for 100 steps and the baseline for 3"):
        design({"grid": {"training.steps": [100, 200]}}, equal="tokens")


def test_points_of_equal_tokens_train_as_long_as_the_base_does() -> None:
    made = design({"grid": {"training.batch_size": [16, 64]}}, equal="tokens")
    base = made.reference("").training
    assert base.batch_size == 32
    assert [made.config(arm, "").training.steps for arm in made.plan.arms] == [2 * base.steps, base.steps // 2]


def test_an_outline_says_what_points_differ_in_from_the_base() -> None:
    made = design({"grid": {RATE: [0.001, 0.003]}}, seeds=1)
    costing = Costing(1.0, 32 * 128, 2.0, 0.1, {}, 3, {}, measured=True)
    outline = Outline(made, dict.fromkeys(made.cells, costing), 1)
    assert [change.key for change in outline.changes("p001", "")] == [RATE]
    assert outline.changes("p002", "") == [], "the demo has 0.003"
    found = outline.plain()
    assert found["sweep"]["keys"] == [RATE] and found["sweep"]["measure"] == "final validation loss"
    assert found["total"]["disk_bytes"] == 6 and "a single seed cannot tell points apart" in found["warnings"][0]


@pytest.mark.parametrize(
    ("sweep", "changes", "sentence"),
    [
        ({}, {}, "sweep: give one of grid, list, random and optuna, not none"),
        ({"grid": {RATE: [1]}, "list": [{RATE: 1}]}, {}, "not grid and list"),
        ({"grid": {}}, {}, "sweep: grid names no key"),
        ({"grid": {RATE: []}}, {}, f"sweep.grid.{RATE} must"),
        ({"grid": {RATE: [0.1, 0.1]}}, {}, f"grid.{RATE}: 0.1 stands twice"),
        ({"list": [{RATE: 0.1}, {RATE: 0.1}]}, {}, "stands twice"),
        ({"gird": {RATE: [1]}}, {}, "unknown key 'sweep.gird'; did you mean 'sweep.grid'"),
        ({"grid": {"optimizer.learning_rat": [1]}}, {}, "'optimizer.learning_rat'; did you mean 'optimizer.learning_r"),
        ({"grid": {RATE: [0.1, -1.0]}}, {}, f"the point {RATE}=-1.0: {RATE} must be"),
        ({"grid": {RATE: [0.1]}, "trials": 3}, {}, "leave `trials` out"),
        ({"random": {RATE: RANGE}}, {}, "needs `trials`"),
        ({"random": {RATE: [0.1, 0.2]}, "trials": 3}, {}, "trials is 3, but there are 2 points only"),
        ({"random": {RATE: {"low": 1}}, "trials": 3}, {}, f"sweep.random.{RATE}: give a list of values, or a range"),
        ({"random": {RATE: RANGE}, "trials": 3, "sampler": "tpe"}, {}, "`sampler` is Optuna's"),
        ({"optuna": {RATE: RANGE}, "trials": 3, "sampler": "tpo"}, {}, "sweep.sampler must be one of"),
        ({"optuna": {RATE: {"low": -1, "high": 1}}, "trials": 3}, {}, f"the point {RATE}=-1.0: {RATE} must be"),
        ({"optuna": {"optimizer.kind": ["adamw", "adanw"]}, "trials": 3}, {}, "adanw"),
        ({"grid": {RATE: [0.1]}}, {"arms": {"hot": {}}}, "the arms of a sweep are its points: leave `arms` out"),
        ({"grid": {RATE: [0.1]}}, {"claim": "Hot."}, "leave `claim` out"),
        ({"grid": {RATE: [0.1]}}, {"tune": {"grid": {RATE: [0.1]}}}, "leave `tune` out"),
        ({"grid": {"seeds.init": [1, 2]}}, {}, "the sweep varies seeds.init, which `seeds` sets"),
        (None, {}, "arms must be given"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(sweep: Any, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PicoLMError) as caught:
        design(sweep, **changes)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_seed_that_repetitions_leave_alone_may_be_varied() -> None:
    made = design({"grid": {"seeds.data": [5, 6]}}, seeds={"numbers": 2, "vary": ["init"]})
    assert [(run.config.seeds.init, run.config.seeds.data) for run in made.comparison()] == [
        (0, 5),
        (0, 6),
        (1, 5),
        (1, 6),
    ]
