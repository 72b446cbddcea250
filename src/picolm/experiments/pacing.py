"""How long a step of each arm takes, so that arms can train for the same time."""

from __future__ import annotations

from collections.abc import Mapping

from picolm.experiments.costing import Costing
from picolm.experiments.design import Design, Paces


def measured_paces(design: Design, costings: Mapping[tuple[str, str], Costing]) -> Paces:
    """Seconds of an update over a run as long as the baseline's, with what happens between updates.

    Args:
        design: of the plan with `equal: steps`, so that all arms have the schedules of the plan.
        costings: of every arm and size.

    Returns:
        For each arm and size the time of the baseline over the number of steps that the arm makes in it.
    """
    first, paces = design.first, {}
    for arm, size in design.cells:
        control = design.config(design.plan.control, size)
        time = costings[design.plan.control, size].training_seconds(control, first)
        steps = control.training.steps - first
        if arm != design.plan.control:
            steps = _steps_within(time, design, costings[arm, size], arm, size)
        paces[arm, size] = time / steps
    return paces


def _steps_within(time: float, design: Design, costing: Costing, arm: str, size: str) -> int:
    """How many steps come nearest to a time."""
    config, first = design.config(arm, size), design.first

    def takes(steps: int) -> float:
        return costing.training_seconds(config, first, first + steps)

    high = 1
    while takes(high) < time:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(middle) < time else (low, middle)
    return high if low < 1 or takes(high) - time < time - takes(low) else low
