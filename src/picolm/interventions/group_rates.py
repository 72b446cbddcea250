"""Groups of parameters whose learning rates are multiples of what they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from picolm.seams import Group


def multiplied(groups: Sequence[Group], factor: Callable[[str], float]) -> list[Group]:
    """Part each group by factor, and multiply the peak of each part by its own.

    Args:
        groups: as an intervention is given them.
        factor: of a parameter, by its name.
    """
    made: list[Group] = []
    for group in groups:
        factors = [factor(name) for name in group["names"]]
        for one in dict.fromkeys(factors):
            chosen = [place for place, other in enumerate(factors) if other == one]
            names, params = ([group[key][place] for place in chosen] for key in ("names", "params"))
            made.append({**group, "names": names, "params": params, "peak": one * group["peak"]})
    return made
