"""Holm's step-down correction: one of several tests is wrongly rejected no more often than alpha."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from picolm.errors import PicoLMError
from picolm.experiments.statistics.estimate import check_alpha


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one test.

    Attributes:
        rejected: whether its null was.
        level: at which it was decided: alpha / (m - k + 1) of the k-th smallest p-value; of those after the first that
            was not rejected, the level of that first.
        adjusted: p-value to be compared with alpha.
    """

    rejected: bool
    level: float
    adjusted: float


def holm(p_values: Sequence[float], *, alpha: float = 0.05) -> list[Step]:
    """Test a family of nulls, whatever the dependence between them.

    Args:
        p_values: one for each null [m].
        alpha: how often one null or more that is true may be rejected.

    Returns:
        One for each, in the order given. An interval at the `level` of its test agrees with it.

    Raises:
        PicoLMError: a p-value is not from 0 to 1.

    Source:
        Holm 1979, Scandinavian Journal of Statistics 6.
    """
    check_alpha(alpha)
    for p in p_values:
        if not 0 <= p <= 1:
            raise PicoLMError(f"a p-value lies from 0 to 1, not at {p}")
    steps: dict[int, Step] = {}
    going, level, adjusted = True, alpha, 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        left = len(p_values) - rank
        level = alpha / left if going else level
        adjusted = max(adjusted, min(1.0, left * p_values[place]))
        going = going and p_values[place] <= level
        steps[place] = Step(going, level, adjusted)
    return [steps[place] for place in range(len(p_values))]
