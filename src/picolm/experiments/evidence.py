"""The runs of the comparison by arm, size and repetition: what two arms are compared by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from picolm.experiments.observation import CurveKey, Observation
from picolm.experiments.quantity import Number, Quantity
from picolm.experiments.reaching import log_place
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.seeds import FloatArray, Seed

_MOST_TOLD = 5


class Evidence:
    """What runs show, found by cell.

    Args:
        observations: of the comparison.
    """

    def __init__(self, observations: Iterable[Observation]) -> None:
        self._cells: dict[tuple[str, str], dict[Seed, Observation]] = {}
        for one in observations:
            self._cells.setdefault((one.record.arm, one.record.size), {})[one.record.repetition] = one

    def numbers(self, quantity: Quantity, arm: str, size: str) -> dict[Seed, Number]:
        """One number of all runs of a cell that have it, by repetition."""
        words = quantity.words
        runs = self._cells[arm, size].items()
        return {seed: one.record.values[words] for seed, one in runs if words in one.record.values}

    def values(self, quantity: Quantity, arm: str, size: str) -> dict[Seed, float] | None:
        """The same as arms are compared: of a place along an axis its logarithm.

        Returns:
            None where a run never got there, or was there at the start: a difference without it would be of those alone
            that did.
        """
        numbers = self.numbers(quantity, arm, size)
        if quantity.reaches is None:
            return {seed: number.value for seed, number in numbers.items()}
        if any(number.censored or number.value <= 0 for number in numbers.values()):
            return None
        return {seed: log_place(number) for seed, number in numbers.items()}

    def curves(self, key: CurveKey, arm: str, size: str, *, finished: bool = False) -> dict[Seed, Curve]:
        """One curve of all runs of a cell that have it, or of those that came to their end."""
        runs = self._cells[arm, size].items()
        return {
            seed: one.curves[key]
            for seed, one in runs
            if key in one.curves and (not finished or one.record.state == "finished")
        }

    def past(self, key: CurveKey) -> Curve | None:
        """The curve of the ancestor that all runs share."""
        return next((one.past[key] for one in self._all() if key in one.past), None)

    def items(
        self, quantity: Quantity, arms: Sequence[str], size: str
    ) -> tuple[list[dict[Seed, FloatArray]], tuple[str, ...]] | None:
        """Scores of items of both arms, by repetition, each [I] and in the same order; and the groups of items.

        Returns:
            None where a run that has the number lacks its items, or has others.
        """
        words = quantity.words
        runs = [
            {seed: one for seed, one in self._cells[arm, size].items() if words in one.record.values} for arm in arms
        ]
        every = [one for arm in runs for one in arm.values()]
        if not every or any(words not in one.items for one in every):
            return None
        first = every[0].items[words]
        if any(one.items[words].scores.keys() != first.scores.keys() for one in every):
            return None
        names = list(first.scores)
        scores = [
            {seed: np.array([one.items[words].scores[name] for name in names]) for seed, one in arm.items()}
            for arm in runs
        ]
        return scores, first.groups

    def absent(self, quantity: Quantity, cells: Iterable[tuple[str, str]]) -> str | None:
        """Which runs of some cells do not have a number, and how far they are; None where all have it."""
        without = [
            f"{one.record.name} ({_how_far(one)})"
            for cell in cells
            for one in self._cells[cell].values()
            if quantity.words not in one.record.values
        ]
        return f"without {told(without)}" if without else None

    def _all(self) -> Iterable[Observation]:
        return (one for cell in self._cells.values() for one in cell.values())


def told(names: Sequence[str]) -> str:
    """The first of several names, and how many more there are."""
    more = f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else ""
    return ", ".join(names[:_MOST_TOLD]) + more


def _how_far(one: Observation) -> str:
    record = one.record
    if record.state in ("running", "stopped"):
        return f"{record.state} at step {record.steps} of {record.planned_steps}"
    return record.notes[0] if record.state == "finished" and record.notes else record.state
