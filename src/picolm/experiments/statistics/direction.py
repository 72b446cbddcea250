"""Which way an effect is predicted to go, and how far it has to."""

from __future__ import annotations

import math
from typing import Literal, get_args

from picolm.errors import PicoLMError, nearest

Direction = Literal["higher", "lower", "same"]
"""Treatment less baseline is above the smallest effect, below minus it, or within +- it."""

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


def check_claim(direction: str, smallest_effect: float) -> None:
    """Refuse a prediction that no number could meet.

    Raises:
        PicoLMError: no such direction; the smallest effect is negative or not finite, or 0 for `same`.
    """
    if direction not in DIRECTIONS:
        raise PicoLMError(f"no direction {direction!r}{nearest(direction, DIRECTIONS)}")
    if not 0 <= smallest_effect < math.inf:
        raise PicoLMError(f"the smallest effect that matters is a size, 0 or more, not {smallest_effect}")
    if direction == "same" and smallest_effect == 0:
        raise PicoLMError("'same' needs a smallest effect above 0: no number of seeds shows that two arms are equal")


def cleared(effect: float, direction: Direction, smallest_effect: float) -> float:
    """By how much an effect clears the smallest one in the predicted direction; negative where it falls short."""
    if direction == "same":
        return smallest_effect - abs(effect)
    return (effect if direction == "higher" else -effect) - smallest_effect
