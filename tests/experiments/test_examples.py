"""Every plan that PicoLM ships, or has among its examples, is a plan whose runs could be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from picolm.experiments.design import Design, base_of
from picolm.experiments.measurable import unmeasured
from picolm.experiments.reading import PLANS, plan_names, plan_path, read_plan
from picolm.interventions.loading import Trust, load_interventions

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PLANNED = [file for file in sorted(EXAMPLES.rglob("*.yaml")) if file.read_text().partition("experiment:")[1]]


@pytest.mark.parametrize(
    "file", [*PLANNED, *sorted(PLANS.glob("*.yaml"))], ids=lambda file: f"{file.parent.name}/{file.name}"
)
def test_a_plan_can_be_made_and_answered(file: Path) -> None:
    plan = read_plan(file)
    design = Design(plan, base_of(plan, file.parent))
    design.search()
    for arm, size in design.cells:
        load_interventions(design.config(arm, size).interventions, Trust())
    config = design.config(plan.control, design.sizes[0])
    assert [unmeasured(one.measure, config, plan.analyze) for one in plan.predictions] == [None] * len(plan.predictions)


def test_a_plain_name_is_a_plan_that_comes_with_picolm() -> None:
    assert plan_names() == ["demo"]
    assert plan_path(Path("demo")) == PLANS / "demo.yaml"
    assert plan_path(Path("demo.yaml")) == Path("demo.yaml") and plan_path(Path("nothing")) == Path("nothing")
