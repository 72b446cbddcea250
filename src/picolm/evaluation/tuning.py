"""Fine-tuning for a task: a head alone on a frozen model (a probe), or the head and a copy of the whole model.

Each learning rate is tried from the same initial values in the same order of texts. The one whose best epoch has the
highest score on the dev set is taken, with that epoch; of equal ones the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field

from picolm.config.section import Count, Fraction, Positive, PositiveReal, Section, Seed, one_is_a_list
from picolm.evaluation.batching import IntArray
from picolm.evaluation.progress import Meter
from picolm.evaluation.readers import Reader
from picolm.evaluation.readout import Example, Readout
from picolm.evaluation.scoring import Engine, FloatArray
from picolm.model.heads import Head

MakeHead = Callable[[int, torch.Generator], Head]
"""(width of the features, generator of the initial values) -> a head on the CPU."""
Score = Callable[[Sequence[Example], Sequence[IntArray]], float]
"""(dev examples, predicted labels [U] of each) -> the task's score; the higher, the better."""

RATES = {"head": (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5), "full": (1e-3, 3e-4, 1e-4)}


class Tuning(Section):
    """How a head, or the model with it, is trained."""

    mode: Literal["head", "full"] = Field("head", description="train the head on a frozen model, or both")
    readout: Literal["auto", "first", "last", "mean"] = Field(
        "auto", description="the feature of a unit, of its tokens; auto: `last`, for masked models `mean`"
    )
    learning_rates: Annotated[tuple[PositiveReal, ...], BeforeValidator(one_is_a_list)] = Field(
        (), description="peaks to try, chosen on the dev set; none: the usual ones of the mode"
    )
    epochs: Positive = Field(10, description="passes over the training texts, at most")
    batch_size: Positive = Field(16, description="texts of an update")
    patience: Count = Field(3, description="epochs without a better dev score before training stops; 0: never")
    weight_decay: float = Field(0.01, ge=0.0, allow_inf_nan=False, description="of AdamW, on matrices")
    warmup: Fraction = Field(
        0.06, description="share of all updates in which the learning rate rises; then it falls to 0"
    )
    clip: PositiveReal = Field(1.0, description="largest norm of the gradient")
    standardize: bool = Field(True, description="scale features by mean and sd of the training units (mode: head)")
    curve_every: Count = Field(0, description="updates between dev scores of the curve; 0: no such curve")
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(one_is_a_list)] = Field(
        (0,),
        min_length=1,
        description="of the head's initial values and of the order of texts; a model is tuned for each",
    )

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates that are tried."""
        return self.learning_rates or RATES[self.mode]

    def readout_of(self, *, is_causal: bool) -> Readout:
        """Which hidden states of a unit are its feature."""
        if self.readout == "auto":
            return "last" if is_causal else "mean"
        return self.readout

    def identity(self, *, is_causal: bool) -> dict[str, Any]:
        """JSON values: what of it decides about figures, as it is meant."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Curve:
    """How the chosen training went.

    Attributes:
        losses: mean over the units of each step's batch before its update, nats, float64 [S]; see
            `convergence.binned`.
        steps: numbers of updates after which the dev set was scored, from 0 on, `curve_every` apart, and after each
            epoch; int64 [P]; empty where that was not asked for.
        dev: the scores, float64 [P].
    """

    losses: FloatArray
    steps: IntArray
    dev: FloatArray


class Tuned:
    """The best of what was trained for one seed.

    Attributes:
        seed: of the head's initial values and of the order of texts.
        reader: gives the features; `MovingReader.model` is the tuned copy.
        head: the head.
        learning_rate: the peak that was chosen.
        epoch: the epoch that was chosen, from 1.
        dev_scores: of every epoch, from 1, by learning rate; empty without a dev set.
        curve: of the chosen training.
    """

    seed: int
    reader: Reader
    head: Head
    learning_rate: float
    epoch: int
    dev_scores: Mapping[float, Sequence[float]]
    curve: Curve

    def predict(self, examples: Sequence[Example]) -> list[IntArray]:
        """The labels of each example's units, int64 [U]."""
        raise NotImplementedError

    def log_p(self, examples: Sequence[Example]) -> list[FloatArray]:
        """Log-probabilities of the labels of each example's units, float64 [U, K], in nats."""
        raise NotImplementedError


def reader_of(engine: Engine, settings: Tuning) -> Reader:
    """What gives features in the mode of the settings; the engine's own model is left as it is in either."""
    raise NotImplementedError


def tune(
    reader: Reader,
    make_head: MakeHead,
    train: Sequence[Example],
    dev: Sequence[Example],
    score: Score,
    settings: Tuning,
    *,
    meter: Meter = Meter(),  # noqa: B008
) -> Iterator[Tuned]:
    """Train, for one seed after another.

    Args:
        reader: from `reader_of`.
        make_head: called for every seed and learning rate.
        train: training examples, each with a unit at least.
        dev: decides about learning rate and epoch; empty: the last epoch of the one learning rate.
        score: of predictions for `dev`.
        settings: how.
        meter: told of every training text.

    Yields:
        What was found for each seed, with the best epoch's parameters.

    Raises:
        PicoLMError: there is no dev set to choose a learning rate on, or training diverges at each of them.
    """
    raise NotImplementedError
