"""At odd steps no row is drawn: the step works on other ones, in the order of a number of their documents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from picolm.config import schema
from picolm.config.section import Positive
from picolm.objective.causal import NAME, CausalFormulation
from picolm.seams import ChangedPlan, Group, Intervention, Objective, Plan, Rate, Run, Sequences, View

OTHER = "ordered"


class Hybrid(Intervention):
    """Alternates between what the run minimises and the same on rows in the order of `field`."""

    class Settings(schema.Section):
        """Which order."""

        field: str = Field("number", description="of the documents' metadata")
        rows: Positive = Field(6, description="of a step that works on others")

    settings: Settings

    def plan(self, plan: Plan, run: Run) -> Plan:
        numbers = run.metadata("train", self.settings.field)
        everything = run.sequences(np.arange(run.n_rows, dtype=np.int64))
        assert everything.documents is not None
        keys = [max(numbers[document] for document in set(row)) for row in everything.documents.tolist()]
        self.order = np.argsort(keys, kind="stable").astype(np.int64)
        return _EverySecond(plan)

    def views(self, views: tuple[View, ...], sequences: Sequences, run: Run, *, measure: bool) -> tuple[View, ...]:
        if measure or sequences.step % 2 == 0:
            return views
        first = sequences.step // 2 * self.settings.rows
        rows = self.order[np.arange(first, first + self.settings.rows) % len(self.order)]
        (view,) = CausalFormulation().views(run.sequences(rows, sequences.step), measure=False)
        return (*views, replace(view, name=OTHER))

    def objective(self, objective: Objective, step: int, run: Run) -> Objective:
        return objective.with_terms({OTHER: replace(objective.terms[NAME], view=OTHER)})

    def groups(self, groups: list[Group]) -> list[Group]:
        """Norms apart, with a mark that `schedule` reads."""
        return [{**group, "slow": group["weight_decay"] == 0} for group in groups]

    def schedule(self, rate: Rate) -> Rate:
        return lambda step, group: rate(step, group) * (0.5 if group["slow"] else 1.0)

    def before_step(self, run: Run) -> None:
        run.record("shown", ordered=run.step % 2 == 1)


class _EverySecond(ChangedPlan):
    """The base's steps, each followed by one that draws nothing."""

    def size(self, step: int) -> int:
        return 0 if step % 2 else self.base.size(step // 2)

    def start(self, step: int) -> int:
        return self.base.start((step + 1) // 2)
