"""`equal: time`: arms as long as the baseline takes, by paces that are kept with the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from picolm.errors import PicoLMError
from picolm.experiments.costing import Costing, step_tokens
from picolm.experiments.design import Design, base_of
from picolm.experiments.folder import ExperimentFolder, plan_digest
from picolm.experiments.pacing import measured_paces
from picolm.experiments.plan import Plan
from picolm.experiments.reading import parse_plan

PLAN: dict[str, Any] = {
    "experiment": 1,
    "base": "demo",
    "set": {"checkpoints.model": {"every": 0, "per_doubling": 0}, "validation.every": 50},
    "arms": {"plain": {}, "slow": {"set": {"optimizer.learning_rate": 0.006}}},
    "seeds": 2,
    "equal": "time",
}
CELLS = (("plain", ""), ("slow", ""))


def plan(**changes: Any) -> Plan:
    return parse_plan(yaml.safe_dump({**PLAN, **changes}, sort_keys=False), origin="plan.yaml", name="plan")


def design(paces: Any = None, **changes: Any) -> Design:
    found = plan(**changes)
    return Design(found, base_of(found, Path()), paces)


def costing(made: Design, step: float, validation: float) -> Costing:
    tokens = step_tokens(made.config("plain", ""))
    return Costing(6.0, tokens, 100.0, step, {"validation": validation}, 0, {}, True)


def test_arms_train_for_as_long_as_the_baseline_takes() -> None:
    made = design({("plain", ""): 0.2, ("slow", ""): 0.5})
    assert made.config("plain", "").training.steps == 300 and made.config("slow", "").training.steps == 120
    # Only ratios count, and a search that is shorter stays so.
    assert (
        design({("plain", ""): 2.0, ("slow", ""): 5.0}).config("slow", "", {"training.steps": 100}).training.steps == 40
    )


def test_a_larger_batch_of_a_search_takes_its_time() -> None:
    made = design({("plain", ""): 0.2, ("slow", ""): 0.5}, arms={"plain": {}, "slow": {"set": {"model.n_layers": 5}}})
    # Both arms have it, so their ratio stays.
    assert made.config("slow", "", {"training.batch_size": 64}).training.steps == 120


def test_without_paces_time_cannot_be_equal() -> None:
    with pytest.raises(PicoLMError, match=r"`equal: time` needs to know how long a step of arm 'slow' takes"):
        design().config("slow", "")
    with pytest.raises(PicoLMError, match="how long a step of arm 'slow'"):
        design({("plain", ""): 0.2}).comparison()


def test_measured_paces_count_what_happens_between_steps() -> None:
    even = design(equal="steps")
    costings = {("plain", ""): costing(even, 0.2, 2.0), ("slow", ""): costing(even, 0.3, 4.0)}
    paces = measured_paces(even, costings)
    # 300 steps and 5 validations: 70 s; the slow arm makes 200 steps and 3 validations in 72 s, 193 in 69.9.
    assert paces["plain", ""] == pytest.approx(70.0 / 300)
    made = design(paces)
    steps = made.config("slow", "").training.steps
    assert steps == 193
    own = costings["slow", ""].training_seconds(made.config("slow", ""))
    assert own == pytest.approx(costings["plain", ""].training_seconds(made.config("plain", "")), abs=0.15)


def test_an_arm_that_is_as_fast_is_as_long() -> None:
    even = design(equal="steps")
    same = costing(even, 0.2, 2.0)
    assert design(measured_paces(even, dict.fromkeys(CELLS, same))).config("slow", "").training.steps == 300


def test_a_kept_plan_keeps_its_paces(tmp_path: Path) -> None:
    paces = {("plain", ""): 0.2, ("slow", ""): 0.5}
    made = design(paces)
    folder = ExperimentFolder(tmp_path / "timed")
    folder.path.mkdir()
    assert folder.paces(made.plan, made.base) is None
    assert folder.register(made, "as written")
    again = folder.design()
    assert again.paces == paces and [run.config for run in again.comparison()] == [
        run.config for run in made.comparison()
    ]
    assert folder.paces(made.plan, made.base) == paces
    assert folder.paces(plan(at_once=2), made.base) == paces
    assert folder.paces(plan(seeds=3), made.base) is None
    # Other paces make other runs: another plan, which says so.
    other = design({("plain", ""): 0.2, ("slow", ""): 0.4})
    assert plan_digest(other) != plan_digest(made) and folder.register(other, "as written")
    assert any("paces" in sentence for sentence in folder.versions()[-1].changes)


def test_paces_of_a_plan_that_asks_for_none_leave_no_trace() -> None:
    paces = dict.fromkeys(CELLS, 1.0)
    assert plan_digest(design(paces, equal="steps")) == plan_digest(design(equal="steps"))
