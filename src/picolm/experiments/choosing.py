"""What a search chooses: for every arm and size the values of tuned keys that did best over the seeds of the search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from picolm.errors import PicoLMError
from picolm.experiments.design import Choice, Design
from picolm.experiments.findings import RunRecord
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.observation import Observer, Wanted
from picolm.experiments.plan import Tune


def choose(folder: ExperimentFolder, design: Design) -> dict[tuple[str, str], Choice]:
    """Find the best combination for every arm and size: that whose mean over the seeds of the search is best.

    A combination with a run that is not finite, or has no number, loses to all others; of several that are equally good
    the first one is taken, in the order of the grid.

    Args:
        folder: of the experiment, whose search was made.
        design: its plan with its base.

    Returns:
        By arm and size, the values of tuned keys; without arms that take another one's.

    Raises:
        PicoLMError: an arm has no combination whose runs all have a finite number.
    """
    tune = design.plan.tune
    assert tune is not None, "there is a search"
    observer = Observer(folder, Wanted({tune.measure.words: tune.measure}))
    runs = [(run, observer.observe(run).record) for run in design.search()]
    found: dict[tuple[str, str], Choice] = {}
    for arm, size in design.cells:
        if design.plan.arms[arm].tuned_as is not None:
            continue
        own = [(run, record) for run, record in runs if (run.arm, run.size) == (arm, size)]
        losses = [_loss([record for run, record in own if run.choice == one], tune) for one in design.combinations]
        if not math.isfinite(min(losses)):
            raise PicoLMError(_without(arm, size, tune, [record for _, record in own]))
        found[arm, size] = design.combinations[losses.index(min(losses))]
    return found


def edges(tune: Tune, choices: Mapping[tuple[str, str], Choice]) -> Iterator[str]:
    """Say where a search chose the smallest or largest value that it tried: what is best may lie beyond.

    Args:
        tune: the search.
        choices: by arm and size, as `choose` finds them.
    """
    for key, grid in tune.grid.items():
        # Of names and switches there is none beyond the first; of two numbers each is an end, and no search is meant.
        if len(set(grid)) < 3 or not all(isinstance(value, int | float) for value in grid):
            continue
        for (arm, size), choice in choices.items():
            end = {min(grid): "lowest", max(grid): "highest"}.get(choice[key])
            if end is not None:
                where = f"arm '{arm}'" + (f" at size '{size}'" if size else "")
                told = f"the {end} {key} that it tried, {choice[key]:g}"
                yield f"for {where} the search chose {told}: a better one may lie beyond"


def _loss(records: Sequence[RunRecord], tune: Tune) -> float:
    """The mean over seeds, turned so that less is better; infinite where a run has no finite number."""
    numbers = [record.values.get(tune.measure.words) for record in records]
    values = [math.inf if number is None or number.censored else number.value for number in numbers]
    if not all(math.isfinite(value) for value in values):
        return math.inf
    return math.fsum(values) / len(values) * (1 if tune.choose == "lowest" else -1)


def _without(arm: str, size: str, tune: Tune, records: Sequence[RunRecord]) -> str:
    where = f"arm '{arm}'" + (f" at size '{size}'" if size else "")
    worst = next((record for record in records if record.notes), records[0])
    why = worst.notes[0] if worst.notes else f"it is {worst.state}"
    return (
        f"the search chooses nothing for {where}: no combination has a finite {tune.measure.words} in all its runs; "
        f"{worst.name}: {why}"
    )
