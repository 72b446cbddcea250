"""A change of batch size at a step; the sequence of rows stays what it was, in other groups."""

from __future__ import annotations

from pydantic import Field

from picolm.config import schema
from picolm.config.section import Counts
from picolm.seams import ChangedPlan, Intervention, Plan, Run


class BatchSize(Intervention):
    """From step `at[i]` on a step draws `sizes[i]` rows."""

    class Settings(schema.Section):
        """When, and how many."""

        at: Counts = Field((2, 5), description="steps from which the sizes hold, in order")
        sizes: Counts = Field((6, 12), description="rows of a step")

    settings: Settings

    def plan(self, plan: Plan, run: Run) -> Plan:
        return _Sized(plan, self.settings.at, self.settings.sizes)

    def before_step(self, run: Run) -> None:
        if run.step in self.settings.at:
            run.record("resized", rows=self.settings.sizes[self.settings.at.index(run.step)])


class _Sized(ChangedPlan):
    def __init__(self, base: Plan, at: tuple[int, ...], sizes: tuple[int, ...]) -> None:
        super().__init__(base)
        self.at, self.sizes = at, sizes

    def size(self, step: int) -> int:
        begun = [size for at, size in zip(self.at, self.sizes, strict=True) if at <= step]
        return begun[-1] if begun else self.base.size(step)

    def start(self, step: int) -> int:
        first = min(step, self.at[0])
        ends = [*self.at[1:], step]
        stretches = zip(self.at, ends, self.sizes, strict=True)
        return self.base.start(first) + sum(size * max(min(end, step) - at, 0) for at, end, size in stretches)
