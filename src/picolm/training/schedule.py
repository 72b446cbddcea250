"""The learning rate of each step, as a multiple of its peak: a pure function of the step."""

from __future__ import annotations

import math

from picolm.config import schema
from picolm.seams import Rate


def scheduled_rate(schedule: schema.Schedule, total_steps: int) -> Rate:
    """The learning rate of a group in an update: its peak times the schedule's multiple."""
    return lambda step, group: group["peak"] * learning_rate_multiple(schedule, step, total_steps)


def learning_rate_multiple(schedule: schema.Schedule, step: int, total_steps: int) -> float:
    """What the peak learning rate is multiplied by in update `step` (from 0).

    Warm-up: (step + 1) / warmup_steps, so the first update is not wasted and the last of the warm-up takes the peak.
    What follows is counted from that peak, and all but `constant` and `inverse_root` end at `final_fraction`:

    =============  =====================================================================================
    linear         1 - u, with u the share of the way from the peak to `decay_steps`
    cosine         (1 + cos(pi u)) / 2 (Loshchilov & Hutter 2017)
    constant       1
    wsd            1, then 1 - u, 1 - sqrt(u) or (1 + cos(pi u)) / 2, with u the share of the fall at the end
                   (Hu et al. 2024, MiniCPM; Haegele et al. 2024)
    restarts       (1 + cos(pi u)) / 2 with u the share of the present cycle (Loshchilov & Hutter 2017)
    inverse_root   sqrt(w / s), with s the number of this update and w that of the peak's (Vaswani et al. 2017)
    =============  =====================================================================================

    Args:
        schedule: shape and lengths.
        step: number of updates made before this one.
        total_steps: updates of the whole run.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    peak = max(schedule.warmup_steps - 1, 0)
    if isinstance(schedule, schema.Decay):
        end = schedule.decay_steps or total_steps
        return _between(schedule.kind, (step - peak) / (end - peak), schedule.final_fraction)
    if isinstance(schedule, schema.StableDecay):
        fall = schedule.fall(total_steps)
        return _between(schedule.shape, (step - (total_steps - fall)) / fall, schedule.final_fraction)
    if isinstance(schedule, schema.Restarts):
        return _restarted(schedule, step - peak)
    if isinstance(schedule, schema.InverseRoot):
        return math.sqrt((peak + 1) / (step + 1))
    return 1.0


def _between(shape: str, progress: float, final_fraction: float) -> float:
    """Fall from 1 to `final_fraction` while `progress` goes from 0 to 1; constant outside."""
    u = min(max(progress, 0.0), 1.0)
    left = {"linear": 1.0 - u, "sqrt": 1.0 - math.sqrt(u), "cosine": (1.0 + math.cos(math.pi * u)) / 2}
    return final_fraction + (1.0 - final_fraction) * left[shape]


def _restarted(schedule: schema.Restarts, since_peak: int) -> float:
    start, length, cycle = 0, schedule.period, 0
    if schedule.period_factor == 1.0:
        cycle = since_peak // length
        start = cycle * length
    while since_peak >= start + length:
        start, cycle = start + length, cycle + 1
        length = round(schedule.period * schedule.period_factor**cycle)
    place, rising = since_peak - start, schedule.rewarmup_steps if cycle else 0
    if place < rising:
        height = (place + 1) / rising
    else:
        # The last step of the rise takes the peak, as that of the first warm-up does.
        top = max(rising - 1, 0)
        height = _between("cosine", (place - top) / (length - top), schedule.final_fraction)
    return float(schedule.peak_factor**cycle * height)
