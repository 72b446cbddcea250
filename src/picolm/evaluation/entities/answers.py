"""What a tuned model says of all test sets, and how its tuning went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from picolm.evaluation.convergence import binned, step_at_share
from picolm.evaluation.entities.corpus import Corpus
from picolm.evaluation.fitting import Curve
from picolm.evaluation.task import Figure
from picolm.evaluation.tuning import Tuned

GRID = 20
"""Updates between the points of a curve whose t90 is reported, at most."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the model that was tuned with one seed says.

    Attributes:
        tags: of each sentence of each test set.
        seed: it was tuned with.
        learning_rate: that was chosen.
        epoch: that was chosen.
        dev_scores: F1 on the dev set after every epoch, by learning rate.
        curve: of the chosen training.
    """

    tags: Mapping[str, Sequence[tuple[str, ...]]]
    seed: int
    learning_rate: float
    epoch: int
    dev_scores: Mapping[float, Sequence[float]]
    curve: Curve

    @classmethod
    def of(cls, tuned: Tuned, corpus: Corpus) -> Answers:
        """Ask a model, and keep of it what is no tensor."""
        tags = corpus.by_test(tuned.predict(corpus.asked))
        return cls(tags, tuned.seed, tuned.learning_rate, tuned.epoch, tuned.dev_scores, tuned.curve)

    def loss_t90(self) -> float | None:
        """The update at which the training loss has done nine tenths of its way, in means over `GRID` updates."""
        return step_at_share(*binned(self.curve.losses, GRID))

    def dev_t90(self) -> float | None:
        """The update at which F1 on the dev set has done nine tenths of its way to the best that it reaches."""
        if not len(self.curve.dev):
            return None
        return step_at_share(self.curve.steps.astype(np.float64), self.curve.dev, end=float(self.curve.dev.max()))

    def record(self) -> dict[str, Any]:
        """What was tried and chosen, the loss of every step and the dev curve, as JSON values."""
        return {
            "seed": self.seed,
            "learning_rate": self.learning_rate,
            "epoch": self.epoch,
            "dev_scores": {str(rate): list(scores) for rate, scores in self.dev_scores.items()},
            "losses": self.curve.losses.tolist(),
            "curve": [
                [int(step), score] for step, score in zip(self.curve.steps, self.curve.dev.tolist(), strict=True)
            ],
        }


def tuning_figures(answers: Sequence[Answers]) -> Iterator[Figure]:
    """How the tuning went, each figure the mean over the seeds; a t90 is over those that have one, which `n` counts."""
    values: dict[str, list[float | None]] = {
        "dev_f1": [100 * max(scores) if (scores := one.dev_scores[one.learning_rate]) else None for one in answers],
        "epoch": [one.epoch for one in answers],
        "learning_rate": [one.learning_rate for one in answers],
        "t90_loss": [one.loss_t90() for one in answers],
        "t90_dev_f1": [one.dev_t90() for one in answers],
    }
    for name, found in values.items():
        there = [value for value in found if value is not None]
        if there:
            yield Figure("all", name, float(np.mean(there)), None, len(there))
