"""When a model is full-rank and when it is not: cycles of equal length between two steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FOREVER = 2**62


@dataclass(frozen=True, slots=True)
class Cycles:
    """Low-rank cycles from `start` on. Steps count updates made: update number s is made at step s.

    Attributes:
        start: the first step with adapters; before it every weight is trained (the warm start).
        stop: the first step without them again; None: they stay.
        every: updates of a cycle; 0: one cycle without end.
        dense_every: of so many cycles the last one is full-rank; 0: none is.
        late: whether what ends a cycle comes one update after its end, as in the published code.
    """

    start: int = 0
    stop: int | None = None
    every: int = 0
    dense_every: int = 0
    late: bool = False

    def number(self, step: int) -> int:
        """Which cycle a step belongs to."""
        return (step - self.start) // self.every if self.every else 0

    def low_rank(self, step: int) -> bool:
        """Whether there are adapters at a step."""
        if step < self.start or (self.stop is not None and step >= self.stop):
            return False
        return not self.dense_every or (self.number(step) + 1) % self.dense_every != 0

    def ends(self, done: int) -> bool:
        """Whether a cycle ends with update `done`: what has to happen, happens after it."""
        passed = done - self.start
        if passed <= 0 or (self.stop is not None and done > self.stop):
            return False
        if done == self.stop:
            return True
        if self.late:
            return bool(self.every) and passed > self.every and passed % self.every == 1
        return bool(self.every) and passed % self.every == 0

    def stages(self, *, each: bool) -> Sequence[int]:
        """The steps before which structure may change."""
        if self.every and (each or self.dense_every):
            return range(self.start, FOREVER if self.stop is None else self.stop + 1, self.every)
        return (self.start,) if self.stop is None else (self.start, self.stop)

    def next_end(self, done: int) -> int | None:
        """The first end of a cycle after `done` updates; None where there is none."""
        if not self.every:
            return self.stop if self.stop is not None and done < self.stop else None
        late = int(self.late)
        passed = max(done + 1 - self.start - late, 1)
        end = self.start + -(-passed // self.every) * self.every + late
        if self.stop is None:
            return end
        return min(end, self.stop) if done < self.stop else None
