"""Noise floors and differences of all numbers that a plan names, at every size, whether they were predicted or not."""

from __future__ import annotations

from collections.abc import Iterable

from picolm.errors import PicoLMError
from picolm.experiments.design import Design
from picolm.experiments.evidence import Evidence
from picolm.experiments.findings import Effect
from picolm.experiments.judging import floor_of, scale_of
from picolm.experiments.quantity import Quantity
from picolm.experiments.replicates import Replicates


def effects_of(design: Design, evidence: Evidence, numbers: Iterable[Quantity]) -> tuple[Effect, ...]:
    """Compare every arm with the baseline.

    Args:
        design: the plan with its base.
        evidence: what its runs show.
        numbers: those that the plan names.

    Returns:
        For each number and size the baseline, where it has a noise floor, then the treatments that it has a pair with.
        What some run never reached has no difference.
    """
    plan, replicates = design.plan, Replicates.of(design.plan.seeds, design.repetitions)
    found: list[Effect] = []
    if plan.sweep is not None:
        # Its first point is nothing to compare with; they are ranked.
        return ()
    for quantity in numbers:
        for size in design.sizes:
            baseline = evidence.values(quantity, plan.control, size)
            if baseline is None:
                continue
            noise = floor_of(baseline, 1 - plan.confidence)
            predicted = _predicted(design, quantity, size)
            scale = scale_of(quantity)
            if noise is not None:
                found.append(Effect(quantity.words, plan.control, size, noise, None, bool(predicted), scale))
            for arm in plan.treatments:
                values = evidence.values(quantity, arm, size)
                if values is None:
                    continue
                try:
                    difference = replicates.difference(values, baseline, noise=noise)
                except PicoLMError:
                    # No pair has it; which runs lack it stands with the predictions and with the runs.
                    continue
                found.append(Effect(quantity.words, arm, size, noise, difference, arm in predicted, scale))
    return tuple(found)


def _predicted(design: Design, quantity: Quantity, size: str) -> set[str]:
    """The arms of which a prediction says something against the baseline."""
    plan = design.plan
    return {
        plan.treatment(one)
        for one in plan.predictions
        if one.measure.words == quantity.words
        and (one.against or plan.control) == plan.control
        and (one.grows or (one.size or design.sizes[0]) == size)
    }
