"""Predictions judged: what was found of each, and the verdict of the primary one and of the family of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from picolm.errors import PicoLMError
from picolm.experiments.design import Design
from picolm.experiments.evidence import Evidence
from picolm.experiments.findings import Judged, Scale
from picolm.experiments.plan import Prediction
from picolm.experiments.quantity import Quantity
from picolm.experiments.reaching import Bounds, agreed, as_reaches, bounds, log_margin
from picolm.experiments.replicates import Replicates
from picolm.experiments.statistics.crossed import CrossedDifference, crossed_difference
from picolm.experiments.statistics.differences import PairedDifference
from picolm.experiments.statistics.estimate import Estimate
from picolm.experiments.statistics.interaction import Interaction, interaction
from picolm.experiments.statistics.noise import NoiseFloor, noise_floor
from picolm.experiments.statistics.seeds import Seed
from picolm.experiments.statistics.survival import ReachComparison, compare_reach
from picolm.experiments.statistics.verdict import Claim, Verdict, verdicts_of
from picolm.model.size import count_parameters

_NOTHING = Estimate(0.0, 1, None, None)
"""Of a prediction of which nothing is known: it is inconclusive, and counts in its family."""
_CENSORED = (
    "a run never reached the value, so that there is no mean ratio: a verdict falls only where every pair lies on the "
    "same side of the smallest effect, by the exact test of signs"
)


@dataclass(frozen=True, slots=True)
class _Found:
    """What is known of a prediction before it is judged; the fields are those of `Judged`, and how pairs are bounded.

    Attributes:
        pairs: of `reaches` where a run never got there; None where there is an estimate, or nothing.
    """

    estimate: Estimate | None = None
    difference: PairedDifference | None = None
    items: CrossedDifference | None = None
    interaction: Interaction | None = None
    reach: ReachComparison | None = None
    noise: NoiseFloor | None = None
    missing: str | None = None
    pairs: tuple[Bounds, ...] | None = None


class Judge:
    """Judges the predictions of a plan.

    Args:
        design: the plan with its base.
        evidence: what its runs show.
    """

    def __init__(self, design: Design, evidence: Evidence) -> None:
        self._design, self._plan, self._evidence = design, design.plan, evidence
        self._replicates = Replicates.of(design.plan.seeds, design.repetitions)
        self._alpha = 1 - design.plan.confidence

    def judged(self) -> tuple[Judged, ...]:
        """All predictions: the primary one, alone at its own alpha; then the others, as one family."""
        predictions = self._plan.predictions
        families = [[one for one in predictions if one.primary], [one for one in predictions if not one.primary]]
        return tuple(judged for family in families for judged in self._family(family))

    def _family(self, predictions: Sequence[Prediction]) -> list[Judged]:
        if not predictions:
            return []
        found = [self._found(one) for one in predictions]
        claims = [self._claim(*pair) for pair in zip(predictions, found, strict=True)]
        verdicts = verdicts_of(claims, alpha=self._alpha)
        return [
            self._told(one, what, verdict, len(predictions))
            for one, what, verdict in zip(predictions, found, verdicts, strict=True)
        ]

    def _told(self, prediction: Prediction, found: _Found, verdict: Verdict, predictions: int) -> Judged:
        whole: Verdict | None = verdict
        if found.pairs is not None:
            n = self._plan.seeds.independent if self._replicates.factors else len(found.pairs)
            whole = agreed(verdict.claim, found.pairs, n, alpha=self._alpha, predictions=predictions)
        elif found.estimate is None:
            whole = None
        p_value = None if found.estimate is None else found.estimate.p_value()
        return Judged(
            prediction=prediction,
            arm=self._plan.treatment(prediction),
            against=prediction.against or self._plan.control,
            verdict=whole,
            p_value=found.reach.p_value if p_value is None and found.pairs and found.reach is not None else p_value,
            difference=found.difference,
            items=found.items,
            interaction=found.interaction,
            reach=found.reach,
            noise=found.noise,
            scale=scale_of(prediction.measure),
            missing=found.missing,
        )

    def _claim(self, prediction: Prediction, found: _Found) -> Claim:
        margin = prediction.smallest
        if prediction.measure.reaches is not None:
            margin = log_margin(prediction.direction, prediction.smallest)
        name = prediction.says or prediction.measure.words
        return Claim(name, found.estimate or _NOTHING, prediction.direction, margin)

    def _found(self, prediction: Prediction) -> _Found:
        plan, sizes = self._plan, self._design.sizes
        arms = plan.treatment(prediction), prediction.against or plan.control
        sizes = sizes if prediction.grows else [prediction.size or sizes[0]]
        absent = self._evidence.absent(prediction.measure, [(arm, size) for size in sizes for arm in arms])
        try:
            if prediction.grows:
                found = self._interaction(prediction, *arms)
            else:
                found = self._difference(prediction, *arms, sizes[0])
        except PicoLMError as error:
            found = _Found(missing=str(error))
        reasons = [reason for reason in (found.missing, absent) if reason is not None]
        return replace(found, missing="; ".join(reasons) or None)

    def _difference(self, prediction: Prediction, arm: str, against: str, size: str) -> _Found:
        measure = prediction.measure
        numbers = [self._evidence.numbers(measure, name, size) for name in (arm, against)]
        values = [self._evidence.values(measure, name, size) for name in (arm, against)]
        noise = None if values[1] is None else floor_of(values[1], self._alpha)
        reach = None
        if measure.reaches is not None:
            reach = compare_reach(*(as_reaches(one) for one in numbers))
        if values[0] is None or values[1] is None:
            return _Found(noise=noise, reach=reach, missing=_CENSORED, pairs=tuple(bounds(*numbers)))
        difference = self._replicates.difference(values[0], values[1], noise=noise)
        items = self._items(prediction, arm, against, size)
        estimate = difference.estimate if items is None else items.estimate
        return _Found(estimate, difference, items, None, reach, noise)

    def _items(self, prediction: Prediction, arm: str, against: str, size: str) -> CrossedDifference | None:
        # Where two factors of seeds are crossed, those take the place of seeds and items.
        if prediction.measure.evaluation is None or self._replicates.factors is not None:
            return None
        found = self._evidence.items(prediction.measure, (arm, against), size)
        if found is None:
            return None
        (treatment, baseline), groups = found
        try:
            return crossed_difference(treatment, baseline, groups=groups or None)
        except PicoLMError:
            # A single item, or group of items: seeds alone say what there is to say.
            return None

    def _interaction(self, prediction: Prediction, arm: str, against: str) -> _Found:
        effects: dict[float, dict[Seed, float]] = {}
        for size in self._design.sizes:
            values = [self._evidence.values(prediction.measure, name, size) for name in (arm, against)]
            if values[0] is None or values[1] is None:
                return _Found(missing="a run never reached the value, so that its size has no mean ratio")
            difference = self._replicates.difference(values[0], values[1])
            means = self._replicates.independent(dict(difference.differences))
            effects.setdefault(self._parameters(size), {}).update(means)
        if len(effects) < len(self._design.sizes):
            raise PicoLMError(
                "two sizes have the same number of parameters: there is nothing for the effect to grow with"
            )
        contrast = interaction(effects, same_seeds=self._same_seeds)
        return _Found(contrast.estimate, interaction=contrast)

    @property
    def _same_seeds(self) -> bool:
        """Whether a seed means the same at all sizes: the order of the data does, initial weights do not."""
        seeds = self._plan.seeds
        return "data" in (seeds.vary if seeds.numbers is not None else seeds.crossed)

    def _parameters(self, size: str) -> float:
        config = self._design.config(self._plan.control, size)
        return float(count_parameters(config.model, config.model.vocab_size or config.tokenizer.vocab_size).total)


def floor_of(values: dict[Seed, float], alpha: float) -> NoiseFloor | None:
    """What seeds alone do to a number; None with fewer than two."""
    try:
        return noise_floor(values, alpha=alpha)
    except PicoLMError:
        return None


def scale_of(quantity: Quantity) -> Scale:
    """What the effect on a number is measured in."""
    return "difference" if quantity.reaches is None else "log ratio"
