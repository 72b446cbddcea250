"""Values by seed: which seeds have their counterpart in the other arm, and why others were left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picolm.errors import PicoLMError

Seed = int | str
"""The name of a replicate: its seed, or its seeds of initial values, data and dropout in one word."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A seed that was left out.

    Attributes:
        seed: its name.
        reason: in words, such as "baseline is nan".
    """

    seed: Seed
    reason: str


@dataclass(frozen=True, slots=True)
class Matched:
    """The seeds that every one of several series has, with what was left out.

    Attributes:
        seeds: in the order of the first series.
        values: by series and seed [series, S].
        dropped: what was left out, and why.
    """

    seeds: tuple[Seed, ...]
    values: FloatArray
    dropped: tuple[Dropped, ...]


def matched(series: Mapping[str, Mapping[Seed, float]]) -> Matched:
    """Keep the seeds at which every series has a finite value.

    Args:
        series: values by seed, under the name that a message calls them by.

    Raises:
        PicoLMError: no seed is left.
    """
    kept: list[Seed] = []
    dropped: list[Dropped] = []
    for seed in dict.fromkeys(seed for values in series.values() for seed in values):
        reasons = _reasons(seed, series)
        if reasons:
            dropped.append(Dropped(seed, " and ".join(reasons)))
        else:
            kept.append(seed)
    if not kept:
        raise PicoLMError(f"no seed has a finite value of {' and '.join(series)}{_told(dropped)}")
    values = np.array([[values[seed] for seed in kept] for values in series.values()], dtype=np.float64)
    return Matched(tuple(kept), values, tuple(dropped))


def _reasons(seed: Seed, series: Mapping[str, Mapping[Seed, float]]) -> list[str]:
    found = []
    for name, values in series.items():
        if seed not in values:
            found.append(f"{name} is missing")
        elif not math.isfinite(values[seed]):
            found.append(f"{name} is {values[seed]}")
    return found


def _told(dropped: Sequence[Dropped]) -> str:
    more = f"; and {len(dropped) - 5} more" if len(dropped) > 5 else ""
    return "".join(f"; seed {one.seed}: {one.reason}" for one in dropped[:5]) + more


def mean_over_seeds(values: FloatArray, *, scale: float = 0.0) -> tuple[float, float | None]:
    """Mean and standard error of values that belong to seeds.

    Args:
        values: [S].
        scale: the largest number that the values are differences of: a spread within its rounding is none.

    Returns:
        The mean, and sd / sqrt(S) with S - 1 in the sd; None of one seed.
    """
    n = len(values)
    mean = float(values.mean())
    if n < 2:
        return mean, None
    sd = float(values.std(ddof=1))
    # 2.3 - 2.2 and 3.3 - 3.2 are no finding.
    rounding = 4 * np.finfo(np.float64).eps * max(scale, float(np.abs(values).max()))
    return mean, 0.0 if sd <= rounding else sd / math.sqrt(n)
