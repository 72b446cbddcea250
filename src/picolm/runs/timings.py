"""What the lines of `timings.jsonl` say together."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any


def total_seconds(timings: Sequence[dict[str, Any]]) -> float | None:
    """Wall-clock time of all attempts; None where nothing was timed.

    Each attempt counts from its own start, so a clock that goes back is a new attempt.
    """
    clock = [float(line["seconds"]) for line in timings if isinstance(line.get("seconds"), int | float)]
    if not clock:
        return None
    return sum(now for now, following in zip(clock, [*clock[1:], -1.0], strict=True) if following < now)


def typical_speed(timings: Sequence[dict[str, Any]]) -> float | None:
    """Median tokens per second of training; None where nothing was timed."""
    speeds = [line["tokens_per_second"] for line in timings if isinstance(line.get("tokens_per_second"), int | float)]
    return median(speeds) if speeds else None
