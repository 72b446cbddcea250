"""What a reader of findings must know before believing them, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from picolm.errors import PicoLMError
from picolm.experiments.choosing import edges
from picolm.experiments.design import Choice, Design
from picolm.experiments.evidence import told
from picolm.experiments.findings import Judged
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.observation import Observation
from picolm.experiments.replicates import Replicates
from picolm.experiments.statistics.foresight import too_few_seeds


def warnings_of(
    design: Design,
    folder: ExperimentFolder,
    observations: Sequence[Observation],
    judged: Sequence[Judged],
    choices: Mapping[tuple[str, str], Choice],
) -> tuple[str, ...]:
    """All warnings of an experiment: of its past, its search, its runs, and its seeds.

    Args:
        design: the plan with its base.
        folder: of the experiment.
        observations: of the comparison.
        judged: its predictions.
        choices: what its search chose, by arm and size.
    """
    tune = design.plan.tune
    searched = [] if tune is None else edges(tune, choices)
    return tuple([*_of_past(design, folder), *searched, *_of_runs(observations), *_of_seeds(design, judged)])


def _of_past(design: Design, folder: ExperimentFolder) -> Iterator[str]:
    fork = design.plan.fork
    if fork is None:
        return
    yield (
        f"all arms go on from step {fork.at} of {fork.run}: forks of one parent are no replicates of the whole "
        "training, and intervals say nothing about other pasts"
    )
    try:
        folder.parent()
    except PicoLMError as error:
        yield f"the past is not shown: {error}"


def _of_runs(observations: Sequence[Observation]) -> Iterator[str]:
    records = [one.record for one in observations]
    n = len(records)
    waiting = [record.name for record in records if record.state == "waiting"]
    if waiting:
        yield f"{len(waiting)} of {n} runs did not begin: {told(waiting)}"
    going = [
        f"{record.name} ({record.state} at step {record.steps} of {record.planned_steps})"
        for record in records
        if record.state in ("running", "stopped")
    ]
    if going:
        yield f"{len(going)} of {n} runs are not at their end: {told(going)}"
    failed = [record.name for record in records if record.state == "failed"]
    if failed:
        yield f"{len(failed)} of {n} runs failed: {told(failed)}"
    diverged = [one.record.name for one in observations if one.diverged]
    if diverged:
        yield (
            f"{len(diverged)} of {n} runs diverged: {told(diverged)}; differences are those of pairs in which neither "
            "run did"
        )


def _of_seeds(design: Design, judged: Sequence[Judged]) -> Iterator[str]:
    plan, n = design.plan, design.plan.seeds.independent
    if not plan.predictions:
        return
    if n < 2:
        yield "a single seed has no noise floor, and no verdict can be reached: take 5 or more"
        return
    replicates = Replicates.of(plan.seeds, design.repetitions)
    if replicates.factors is not None:
        yield (
            f"seeds of {replicates.factors[0]} and {replicates.factors[1]} are crossed: differences count as {n} "
            "independent ones, those of the factor with fewer seeds; noise floors and bands take all runs, or their "
            f"means by {replicates.factors[0]}, as independent, and are a little too narrow"
        )
    noises = [one.noise.warning for one in judged if one.prediction.primary and one.noise is not None]
    yield from (warning for warning in noises if warning is not None)
    secondary = max(1, sum(not one.primary for one in plan.predictions))
    for one in judged:
        # Once there is an interval, its verdict says how many seeds would settle it.
        if one.verdict is None or one.verdict.claim.estimate.measurable:
            continue
        family = 1 if one.prediction.primary else secondary
        claim = one.verdict.claim
        pairs, alpha = plan.n_pairs(one.prediction), 1 - plan.confidence
        few = too_few_seeds(pairs, claim.direction, claim.smallest_effect, predictions=family, alpha=alpha)
        if few is not None:
            yield f"{one.prediction.measure.words}: {few}"
