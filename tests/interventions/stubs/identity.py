"""Overrides every method and changes nothing: what it costs a run to have an intervention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from picolm.model.interface import LanguageModel
from picolm.seams import ChangedPlan, Group, Intervention, Objective, Plan, Rate, Run, Sequences, View


class Identity(Intervention):
    """Has every seam, and a stage at which nothing happens."""

    def stages(self) -> Sequence[int]:
        return (2,)

    def plan(self, plan: Plan, run: Run) -> Plan:
        return ChangedPlan(plan)

    def views(self, views: tuple[View, ...], sequences: Sequences, run: Run, *, measure: bool) -> tuple[View, ...]:
        return tuple(views)

    def model(self, model: LanguageModel, step: int, run: Run) -> LanguageModel:
        return model

    def objective(self, objective: Objective, step: int, run: Run) -> Objective:
        return objective.with_terms({})

    def groups(self, groups: list[Group]) -> list[Group]:
        return [dict(group) for group in groups]

    def schedule(self, rate: Rate) -> Rate:
        return lambda step, group: rate(step, group)

    def before_step(self, run: Run) -> None:
        assert run.model is not None

    def gradients(self, run: Run) -> None:
        assert run.parameters

    def after_step(self, run: Run) -> None:
        run.reset_state(list(run.parameters), policy=lambda name, state: state)

    def export(self, model: LanguageModel) -> LanguageModel | None:
        return model

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert not state
