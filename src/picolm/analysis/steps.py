"""Which steps of a suite are looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from picolm.errors import PicoLMError

WAYS = "all, last, numbers with commas between (0,100,1000), or log:N for N of them, spaced evenly by the logarithm"
"""What can be written, for help and errors."""


def chosen_steps(wanted: str | int | Sequence[int], there: Sequence[int]) -> list[int]:
    """Choose among steps.

    Args:
        wanted: a number, numbers, or as `WAYS` says.
        there: the steps that there are, ascending.

    Returns:
        The chosen ones, ascending.

    Raises:
        PicoLMError: a step is not there, or it is written in no known way.
    """
    if wanted == "all":
        return list(there)
    if wanted == "last":
        return list(there[-1:])
    if isinstance(wanted, str):
        word, _, count = wanted.partition(":")
        if word == "log" and count.isdecimal() and int(count) > 0:
            return thinned(there, int(count))
        numbers = [part.strip() for part in wanted.split(",")]
        if not all(number.isdecimal() for number in numbers):
            raise PicoLMError(f"steps can be {WAYS}; not '{wanted}'")
        return chosen_steps([int(number) for number in numbers], there)
    steps = [wanted] if isinstance(wanted, int) else list(wanted)
    for step in steps:
        if step not in there:
            raise PicoLMError(f"there is no step {step}; there are: {', '.join(map(str, there)) or 'none'}")
    return sorted(set(steps))


def thinned(there: Sequence[int], count: int) -> list[int]:
    """At most `count` steps, the last one always, the first one from two on, evenly spaced in log(1 + step).

    Each of the evenly spaced places takes the step that is nearest to it; two places may take the same one.

    Args:
        there: the steps that there are, ascending.
        count: from 1 on.
    """
    if count >= len(there):
        return list(there)
    logs = np.log1p(np.array(there, dtype=np.float64))
    places = np.linspace(logs[-1], logs[0], count)
    return sorted({there[int(np.abs(logs - place).argmin())] for place in places})
