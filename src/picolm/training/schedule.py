"""The learning rate of each step, as a multiple of its peak."""

from __future__ import annotations

import math

from picolm.config import schema


def learning_rate_multiple(schedule: schema.Schedule, step: int, total_steps: int) -> float:
    """What the peak learning rate is multiplied by in update `step` (from 0).

    Warm-up: (step + 1) / warmup_steps, so the first update is not wasted and the last of the warm-up takes the peak.
    Then with u, the share of the way from the peak to `decay_steps`: linear 1 - u, cosine (1 + cos(pi u)) / 2
    (Loshchilov & Hutter 2017), constant 1, all scaled to end at `final_fraction`.

    Args:
        schedule: shape, warm-up and end of the decay.
        step: number of updates made before this one.
        total_steps: updates of the whole run, where the decay ends unless the schedule says otherwise.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    if schedule.kind == "constant":
        return 1.0
    peak = max(schedule.warmup_steps - 1, 0)
    end = schedule.decay_steps or total_steps
    progress = min((step - peak) / (end - peak), 1.0)
    shape = 1.0 - progress if schedule.kind == "linear" else (1.0 + math.cos(math.pi * progress)) / 2
    return schedule.final_fraction + (1.0 - schedule.final_fraction) * shape
