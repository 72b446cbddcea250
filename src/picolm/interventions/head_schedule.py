"""A learning rate of their own for heads that are trained in a part of a run only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from picolm.seams import Group

UNIT = "unit"
"""The key of a group that says whose head it holds."""


def parted(groups: Sequence[Group], unit: str, learning_rate: float) -> list[Group]:
    """The same groups without the parameters of a term's head, and those in groups of their own, marked by `UNIT`.

    Args:
        groups: as an intervention is given them.
        unit: the name of the term.
        learning_rate: of the head, at its peak.
    """
    found: list[Group] = []
    for group in groups:
        own = [name.startswith(f"heads.{unit}.") for name in group["names"]]
        for wanted in (False, True):
            members = [place for place, is_own in enumerate(own) if is_own == wanted]
            if members:
                part = {**group, **{key: [group[key][place] for place in members] for key in ("names", "params")}}
                found.append({**part, "peak": learning_rate, "lr": learning_rate, UNIT: unit} if wanted else part)
    return found


def rise_and_fall(step: int, steps: range, warmup: float) -> float:
    """What the peak is multiplied by: up to 1 in a straight line, then down to 0 at the end; 0 outside of `steps`.

    Args:
        step: updates made before this one.
        steps: those in which the head is trained.
        warmup: share of them in which the rate rises.
    """
    if step not in steps:
        return 0.0
    rising, place = math.ceil(warmup * len(steps)), step - steps.start
    if place < rising:
        return (place + 1) / rising
    peak = max(rising - 1, 0)
    return 1.0 - (place - peak) / (len(steps) - peak)
