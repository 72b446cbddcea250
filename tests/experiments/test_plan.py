"""Plans: what is refused, with which sentence, and the runs that a plan stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from picolm.config.difference import difference
from picolm.errors import PicoLMError
from picolm.experiments.costing import Costing, step_tokens
from picolm.experiments.design import Design, base_of
from picolm.experiments.findings import Cost
from picolm.experiments.outline import Outline
from picolm.experiments.plan import Plan
from picolm.experiments.quantity import Quantity
from picolm.experiments.reading import parse_plan, read_plan
from picolm.model.size import flops_per_token

PLAN: dict[str, Any] = {
    "experiment": 1,
    "claim": "Hotter is better.",
    "base": "demo",
    "arms": {"cool": {}, "hot": {"set": {"optimizer.learning_rate": 0.006}}},
    "seeds": 3,
    "predictions": [
        {"measure": {"validation": "loss"}, "direction": "lower", "smallest": 0.01, "primary": True},
        {"measure": {"logged": "gradient_norm", "summary": "mean"}, "direction": "higher"},
    ],
}


def plan(**changes: Any) -> Plan:
    return parse_plan(yaml.safe_dump({**PLAN, **changes}, sort_keys=False), origin="plan.yaml", name="plan")


def design(**changes: Any) -> Design:
    found = plan(**changes)
    return Design(found, base_of(found, Path()))


def steady(made: Design, seconds: float) -> Costing:
    """Coefficients by which a run takes some seconds and seven bytes, and a token one operation."""
    return Costing(1.0, step_tokens(made.base), seconds, 0.0, {}, 7, {}, measured=True)


def with_prediction(**changes: Any) -> list[dict[str, Any]]:
    return [{**PLAN["predictions"][0], **changes}]


def test_an_arm_may_have_fewer_repetitions_and_no_search_of_its_own() -> None:
    rate = {"grid": {"optimizer.learning_rate": [1e-3, 3e-3]}}
    arms = {"plain": {}, "warm": {"set": {"schedule.warmup_steps": 5}, "seeds": 2, "tuned_as": "plain"}}
    made = design(arms=arms, seeds=3, tune=rate, predictions=[], claim="")
    assert {run.arm for run in made.search()} == {"plain"}
    chosen = {("plain", ""): {"optimizer.learning_rate": 1e-3}}
    runs = made.comparison(chosen)
    assert [run.name for run in runs] == ["plain.seed0", "warm.seed0", "plain.seed1", "warm.seed1", "plain.seed2"]
    assert {run.config.optimizer.learning_rate for run in runs} == {1e-3}
    for wrong, sentence in (
        ({"seeds": 4}, "arms.warm.seeds is 4, but there are 3 repetitions"),
        ({"tuned_as": "plane"}, "'plane' is none of the arms"),
        ({"tuned_as": "warm"}, "has no search of its own"),
    ):
        with pytest.raises(PicoLMError, match=sentence):
            plan(arms={"plain": {}, "warm": wrong}, seeds=3, tune=rate, predictions=[], claim="")
    with pytest.raises(PicoLMError, match="there is no `tune`"):
        plan(arms={"plain": {}, "warm": {"tuned_as": "plain"}}, seeds=3)


def test_runs_of_a_repetition_differ_in_what_the_arm_declares_and_nothing_else() -> None:
    runs = design().comparison()
    assert [run.name for run in runs] == [f"{arm}.seed{n}" for n in range(3) for arm in ("cool", "hot")]
    for cool, hot in zip(runs[::2], runs[1::2], strict=True):
        changes = difference(cool.config.model_dump(mode="json"), hot.config.model_dump(mode="json"))
        assert [(change.key, change.right) for change in changes] == [("optimizer.learning_rate", 0.006)]
        number = int(cool.name[-1])
        assert set(cool.config.seeds.model_dump().values()) == {number}


def test_factors_that_do_not_vary_stay_as_in_the_base() -> None:
    runs = design(seeds={"numbers": [4, 7], "vary": ["data"]}).comparison()
    assert [(run.config.seeds.data, run.config.seeds.init) for run in runs[::2]] == [(4, 0), (7, 0)]


def test_two_factors_are_crossed() -> None:
    runs = design(seeds={"init": 2, "data": [5, 6, 7]}).comparison()
    cool = [run for run in runs if run.arm == "cool"]
    assert [(run.config.seeds.init, run.config.seeds.data) for run in cool] == [
        (init, data) for init in (0, 1) for data in (5, 6, 7)
    ]
    assert cool[1].name == "cool.init0-data6" and cool[1].config.seeds.dropout == 0


def test_a_search_tries_every_combination_in_every_arm_on_seeds_apart() -> None:
    grid = {"optimizer.learning_rate": [0.001, 0.01], "optimizer.weight_decay": [0.0, 0.1]}
    arms = {"cool": {}, "smooth": {"with": ["label_smoothing alpha=0.1"]}}
    tuned = design(arms=arms, tune={"grid": grid, "seeds": [50, 51], "set": {"training.steps": 40}})
    runs = tuned.search()
    assert len(runs) == 2 * 4 * 2 == len({run.name for run in runs})
    tried = {arm: set() for arm in arms}
    for run in runs:
        assert run.config.training.steps == 40 and run.config.seeds.init in (50, 51)
        tried[run.arm].add((run.config.optimizer.learning_rate, run.config.optimizer.weight_decay))
    assert tried["cool"] == tried["smooth"] and len(tried["cool"]) == 4
    with pytest.raises(PicoLMError, match=r"tune\.seeds and seeds share 1: what is chosen on a seed is too good on it"):
        design(tune={"grid": grid, "seeds": [1]})


def test_arms_of_equal_tokens_or_operations_train_as_long_as_these_take() -> None:
    arms = {"narrow": {}, "long": {"set": {"training.batch_size": 64, "model.d_ffn": 768}}}
    tokens, flops = (design(arms=arms, equal=equal) for equal in ("tokens", "flops"))
    narrow, long = tokens.config("narrow", ""), tokens.config("long", "")
    assert (narrow.training.steps, long.training.steps) == (300, 150)
    cost = [config.training.batch_size * flops_per_token(config.model, 1024, 128) for config in (narrow, long)]
    assert flops.config("long", "").training.steps == round(300 * cost[0] / cost[1]) < 150


def test_a_fork_shares_its_past_and_counts_what_comes_after() -> None:
    arms = {"narrow": {}, "long": {"set": {"training.batch_size": 64}}}
    forked = Design(plan(arms=arms, equal="tokens", base=None, fork={"run": "r", "at": 100}), base_of(plan(), Path()))
    assert forked.first == 100 and forked.config("long", "").training.steps == 100 + 200 // 2


def test_what_is_held_equal_cannot_be_changed_by_an_arm() -> None:
    with pytest.raises(PicoLMError, match="arm 'longer' trains for 600 steps and the baseline for 300: the length"):
        design(arms={"plain": {}, "longer": {"set": {"training.steps": 600}}}, predictions=with_prediction())


def test_a_later_patch_wins_however_it_is_spelt() -> None:
    found = design(
        set={"model.d_ffn": 256, "model": {"n_layers": 2}},
        sizes={"one": {"model": {"d_ffn": 512}}},
        arms={"cool": {"set": {"model.d_ffn": 640}}, "hot": {}},
        predictions=with_prediction(arm="hot"),
    )
    assert found.config("cool", "one").model.d_ffn == 640 and found.config("hot", "one").model.d_ffn == 512
    assert found.config("hot", "one").model.n_layers == 2


def test_another_kind_of_a_section_brings_its_own_keys() -> None:
    wsd = {"schedule": {"warmup_steps": 7, "kind": "wsd"}}
    found = design(arms={"cool": {}, "wsd": {"set": wsd}}).config("wsd", "")
    assert (found.schedule.kind, found.schedule.warmup_steps) == ("wsd", 7)


def test_an_outline_adds_up_and_says_what_arms_differ_in() -> None:
    made = design(sizes={"s": {}, "l": {"model.n_layers": 6}}, predictions=with_prediction(size="l"))
    costs = {cell: steady(made, 1.0 * place) for place, cell in enumerate(made.cells, start=1)}
    outline = Outline(made, costs, at_once=2)
    assert made.cells == [("cool", "s"), ("hot", "s"), ("cool", "l"), ("hot", "l")]
    assert outline.total == Cost(12 * 300 * 4096.0, 3 * 10.0, 12 * 7)
    # 1, 2, 3, 4 seconds three times over on two places: 4, 6 | 8, 12, then 1 + 3, 2 + 4 on top each time.
    assert outline.wall_seconds == 16.0 and outline.plain()["wall_seconds"] == 16.0
    assert [change.key for change in outline.changes("hot", "l")] == ["optimizer.learning_rate"]
    assert outline.changes("cool", "l") == []
    (few,) = outline.warnings
    assert "3 seeds tell an effect only where it lies" in few


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seeds": 1}, "a single seed has no noise floor"),
        ({"seeds": {"init": 1, "data": 1}}, "a single seed has no noise floor"),
        ({"seeds": {"init": 2, "data": 40}}, "2 seeds tell an effect only"),
        ({"seeds": 6, "confidence": 0.999}, "6 seeds tell an effect only"),
        ({"seeds": 30, "hours": 0.001}, "more than the 0.001 that the plan allows"),
    ],
)
def test_what_cannot_be_told_is_said_before_the_run(changes: dict[str, Any], sentence: str) -> None:
    made = design(**changes)
    found = Outline(made, dict.fromkeys(made.cells, steady(made, 60.0))).warnings
    assert any(sentence in warning for warning in found)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"arm": {}}, "unknown key 'arm'; did you mean 'arms'"),
        ({"arms": {}}, "arms must be"),
        ({"arms": {"a b": {}, "c": {}}}, "'a b' cannot name an arm"),
        ({"arms": {"cool": {}, "hot": {"set": {"optimizer.lr": 1}}}}, "arm 'hot': unknown key 'optimizer.lr'"),
        ({"baseline": "cold"}, "baseline 'cold' is none of the arms: cool, hot"),
        ({"claim": ""}, "there are predictions but no `claim`"),
        ({"predictions": []}, "there is a claim but no prediction"),
        ({"predictions": with_prediction(primary=False)}, "one prediction must be primary, not 0"),
        ({"predictions": with_prediction(arm="warm")}, "predictions.0: 'warm' is none of the arms: cool, hot"),
        ({"predictions": with_prediction(arm="cool")}, "predictions.0 compares 'cool' with itself"),
        ({"predictions": with_prediction(direction="up")}, "direction must be one of 'higher', 'lower', 'same'"),
        ({"predictions": with_prediction(direction="same", smallest=0.0)}, "`same` needs `smallest`"),
        ({"predictions": with_prediction(grows=True)}, "grows with size, but there is one size only"),
        ({"predictions": with_prediction(size="large")}, "'large' is none of the sizes"),
        ({"sizes": {"s": {}, "l": {}}}, "predictions.0 does not say at which `size`, of s, l"),
        ({"arms": {"a": {}, "b": {}, "c": {}}}, "does not say which `arm` it is about, of b, c"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "names a seed twice"),
        ({"seeds": {"numbers": 3, "init": 2}}, "give `numbers`, or factors to cross"),
        ({"seeds": {"init": 2, "data": 2, "dropout": 2}}, "lists for one or two of init, data and dropout"),
        ({"base": None}, "give `base`, what all runs begin with, or `fork`"),
        ({"fork": {"run": "runs/demo", "at": 3}}, "give `base`, what all runs begin with, or `fork`"),
        ({"base": None, "fork": {"run": "r", "at": 3}, "sizes": {"s": {}}}, "leave `sizes` out"),
        ({"base": "demmo"}, "there is no preset 'demmo'; did you mean 'demo'"),
        ({"experiment": 2}, "experiment must be"),
        ({"name": "../up"}, "name must be"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PicoLMError) as caught:
        design(**changes)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "give one of validation, logged, evaluation and metric, not none"),
        ({"validation": "loss", "logged": "loss"}, "not validation and logged"),
        ({"evaluation": "pairs:blimp"}, "needs `score`"),
        ({"metric": "per"}, "needs `site`"),
        ({"validation": "loss", "at": 3, "reaches": 2.0}, "give one of `at`, `reaches` and `summary`"),
        ({"validation": "loss", "at": 3, "summary": "mean"}, "give one of `at`, `reaches` and `summary`"),
    ],
)
def test_a_quantity_is_one_number(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Quantity(**given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"validation": "loss"}, "final validation loss"),
        ({"validation": "bits_per_byte", "domain": "news", "at": 30}, "validation bits per byte on news at step 30"),
        ({"validation": "loss", "reaches": 3.5, "over": "flops"}, "flops until validation loss reaches 3.5"),
        (
            {"logged": "gradient_norm", "summary": "area", "over": "tokens"},
            "training gradient norm averaged over tokens",
        ),
        ({"evaluation": "pairs:blimp", "score": "accuracy"}, "final accuracy of pairs:blimp"),
        ({"metric": "per", "site": "embedding", "summary": "slope"}, "slope of per at embedding over steps"),
    ],
)
def test_a_quantity_in_words(given: dict[str, Any], words: str) -> None:
    assert Quantity(**given).words == words


def test_a_plan_without_a_name_is_called_as_its_file(tmp_path: Path) -> None:
    path = tmp_path / "warmth.yaml"
    path.write_text(yaml.safe_dump(PLAN))
    assert read_plan(path).name == "warmth"
    with pytest.raises(PicoLMError, match=r"there is no plan '.*warmht.yaml'; did you mean 'warmth.yaml'"):
        read_plan(tmp_path / "warmht.yaml")
    with pytest.raises(PicoLMError, match=r"is no plan: a plan is a \.yaml file"):
        read_plan(tmp_path)
    path.write_text("training: {steps: 3}")
    with pytest.raises(PicoLMError, match="does not say `experiment: 1`"):
        read_plan(path)
