"""A pool of rows that the live model finds hardest, drawn from until it is scored anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from picolm.config import schema
from picolm.config.section import Positive
from picolm.seams import ChangedPlan, IntArray, Intervention, Plan, Run


class Pool(Intervention):
    """Every `every` steps scores `candidates` rows and keeps the `hardest`; from then on steps draw from those."""

    class Settings(schema.Section):
        """How often, of how many, how many."""

        every: Positive = Field(3, description="steps between two scorings")
        candidates: Positive = Field(16, description="rows that are scored")
        hardest: Positive = Field(8, description="rows that are kept")

    settings: Settings

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.tables: dict[int, Tensor] = {}

    def plan(self, plan: Plan, run: Run) -> Plan:
        return _FromPool(plan, self, run)

    def before_step(self, run: Run) -> None:
        if run.step % self.settings.every or run.step in self.tables:
            return
        drawn = run.rng("candidates", run.step).permutation(run.n_rows)[: self.settings.candidates]
        scores = run.score(drawn)
        kept = np.argsort(-scores, kind="stable")[: self.settings.hardest]
        self.tables[run.step] = torch.from_numpy(drawn[kept])
        run.record("scored", rows=len(drawn), mean=scores.mean(), mean_of_pool=scores[kept].mean())

    def state_dict(self) -> dict[str, Any]:
        return {str(step): table for step, table in self.tables.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.tables = {int(step): table for step, table in state.items()}


class _FromPool(ChangedPlan):
    def __init__(self, base: Plan, pool: Pool, run: Run) -> None:
        super().__init__(base)
        self.pool, self.run = pool, run

    def numbered(self, numbers: IntArray, step: int) -> IntArray:
        scored = step - step % self.pool.settings.every
        table = self.pool.tables[scored].numpy()
        rounds, places = np.divmod(numbers, len(table))
        orders = {number: self.run.rng("order", scored, int(number)).permutation(table) for number in np.unique(rounds)}
        return np.array([orders[number][place] for number, place in zip(rounds, places, strict=True)], dtype=np.int64)

    def horizon(self, step: int) -> int:
        every = self.pool.settings.every
        return min(self.base.horizon(step), step - step % every + every)
