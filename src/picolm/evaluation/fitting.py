"""One training of a head, and of what gives it its features: AdamW at one learning rate, ended by the dev set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from picolm.config.section import Count, Fraction, Positive, PositiveReal, Section
from picolm.evaluation.batching import IntArray, bucketed, shuffled
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.readers import Batch, Reader
from picolm.evaluation.readout import Example
from picolm.evaluation.scoring import Advance
from picolm.model.heads import Head

Score = Callable[[Sequence[Example], Sequence[IntArray]], float]
"""(dev examples, predicted labels [U] of each) -> the task's score; the higher, the better."""


class Recipe(Section):
    """How one training goes."""

    epochs: Positive = Field(10, description="passes over the training texts, at most")
    batch_size: Positive = Field(16, description="texts of an update")
    patience: Count = Field(3, description="epochs without a better dev score after which training ends; 0: never")
    weight_decay: float = Field(0.01, ge=0.0, allow_inf_nan=False, description="of AdamW, on matrices")
    warmup: Fraction = Field(0.06, description="share of updates in which the learning rate rises; then it falls to 0")
    clip: PositiveReal = Field(1.0, description="largest norm of the gradient")
    curve_every: Count = Field(0, description="updates between dev scores of the chosen training's curve; 0: none")

    def share(self, step: int, total: int) -> float:
        """Share of the peak learning rate at an update, from 0 on: linear warm-up, then linear decay."""
        rising = round(self.warmup * total)
        return (step + 1) / rising if step < rising else (total - step) / (total - rising)


@dataclass(frozen=True, slots=True)
class Data:
    """What a training learns from, and what it is judged by.

    Attributes:
        train: examples, each with a unit at least.
        dev: decides which epoch is the best; empty: the last one is.
        score: of predictions for `dev`.
    """

    train: Sequence[Example]
    dev: Sequence[Example]
    score: Score

    def judge(self, reader: Reader, head: Head) -> float:
        """The score on the dev set."""
        return self.score(self.dev, predict(reader, head, self.dev))


@dataclass(frozen=True, slots=True)
class Curve:
    """How a training went.

    Attributes:
        losses: mean over the units of each step's batch before its update, nats, float64 [S]; see
            `convergence.binned`.
        steps: numbers of updates after which the dev set was scored: 0, `curve_every`, twice that, ..., S; int64 [P];
            empty where that was not asked for.
        dev: the scores, float64 [P].
    """

    losses: FloatArray
    steps: IntArray
    dev: FloatArray


@dataclass(frozen=True, slots=True)
class Fit:
    """What one training found, with the parameters of its best epoch.

    Attributes:
        reader: gives the features.
        head: the head.
        learning_rate: the peak.
        epoch: the best one, from 1; 0: training diverged before there was any.
        scores: on the dev set after each epoch; empty without one.
        curve: losses, and dev scores where they were asked for.
    """

    reader: Reader
    head: Head
    learning_rate: float
    epoch: int
    scores: tuple[float, ...]
    curve: Curve

    @property
    def score(self) -> float:
        """Of the best epoch; -inf where there is none."""
        return max(self.scores, default=-math.inf)


def fit(
    reader: Reader,
    head: Head,
    data: Data,
    recipe: Recipe,
    *,
    learning_rate: float,
    seed: int,
    with_curve: bool = False,
    advance: Advance = lambda count: None,
) -> Fit:
    """Train, in place.

    Args:
        reader: a fresh one.
        head: with initial values, on the reader's device.
        data: what to learn.
        recipe: how.
        learning_rate: the peak.
        seed: of the order of texts and of dropout.
        with_curve: whether the dev set is scored every `curve_every` updates too.
        advance: told of every text; of those that the end came before, at the end.
    """
    training = _Training(reader, head, data.train, recipe, learning_rate, seed)
    points: dict[int, float] = {}
    scores: list[float] = []
    best = 0
    for epoch in range(1, recipe.epochs + 1):
        for places in training.batches(epoch):
            if with_curve and training.step % recipe.curve_every == 0:
                points[training.step] = data.judge(reader, head)
            training.update(places)
            advance(len(places))
        if not training.is_finite():
            best = best if data.dev else 0
            break
        scores += [data.judge(reader, head)] if data.dev else []
        if not data.dev or scores[-1] > max(scores[:-1], default=-math.inf):
            best = epoch
            training.keep()
        elif recipe.patience and epoch - best >= recipe.patience:
            break
    if with_curve and scores:
        points[training.step] = scores[-1]
    training.restore()
    advance((recipe.epochs - epoch) * len(data.train))
    curve = Curve(training.curve(), np.array([*points], dtype=np.int64), np.array([*points.values()]))
    return Fit(reader, head, learning_rate, best, tuple(scores), curve)


class _Training:
    """A head and a reader that are being trained."""

    def __init__(
        self, reader: Reader, head: Head, train: Sequence[Example], recipe: Recipe, peak: float, seed: int
    ) -> None:
        self._reader, self._head, self._train, self._recipe = reader, head, train, recipe
        self._peak, self._seed = peak, seed
        self._net = nn.ModuleList([reader, head])
        self._parameters = [p for p in self._net.parameters() if p.requires_grad]
        self._optimizer = _optimizer(self._parameters, recipe)
        self._lengths = [example.n_tokens for example in train]
        self._total = recipe.epochs * math.ceil(len(train) / recipe.batch_size)
        self._losses: list[Tensor] = []
        self._kept: dict[str, Tensor] = {}

    @property
    def step(self) -> int:
        """Updates made."""
        return len(self._losses)

    def batches(self, epoch: int) -> list[IntArray]:
        """Places of the texts of each batch of an epoch."""
        return shuffled(self._lengths, self._recipe.batch_size, seed=self._seed, epoch=epoch)

    def update(self, places: IntArray) -> None:
        """Make one update."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._peak * self._recipe.share(self.step, self._total)
        with self._reader.training_step(self._seed, self.step):
            batch = self._reader.batch(self._train, places)
        loss = self._head.loss(*batch) / batch.mask.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, self._recipe.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._losses.append(loss.detach())

    def is_finite(self) -> bool:
        """Whether every loss so far is a number."""
        return bool(torch.isfinite(torch.stack(self._losses)).all())

    def keep(self) -> None:
        """Take note of the parameters as they are."""
        self._kept = {name: value.detach().clone() for name, value in self._net.state_dict().items()}

    def restore(self) -> None:
        """Go back to what was kept."""
        if self._kept:
            self._net.load_state_dict(self._kept)
        self._net.eval()

    def curve(self) -> FloatArray:
        """The losses, float64 [S]."""
        losses: FloatArray = torch.stack(self._losses).double().cpu().numpy()
        return losses


def _optimizer(parameters: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    matrices = [parameter for parameter in parameters if parameter.dim() > 1]
    vectors = [parameter for parameter in parameters if parameter.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, fused=True)


def predict(reader: Reader, head: Head, examples: Sequence[Example]) -> list[IntArray]:
    """The likeliest labels of each example's units, int64 [U]."""
    return by_example(reader, examples, lambda batch: head.decode(batch.features, batch.mask))


def by_example(reader: Reader, examples: Sequence[Example], ask: Callable[[Batch], Tensor]) -> list[Any]:
    """Ask something of each unit, without gradient.

    Args:
        reader: gives the features.
        examples: in any order.
        ask: a batch -> [B, U, ...].

    Returns:
        For each example an array [U, ...].
    """
    found: list[Any] = [None] * len(examples)
    with reader.reading():
        for places in bucketed([example.n_tokens for example in examples], reader.budget):
            asked = ask(reader.batch(examples, places)).cpu().numpy()
            for place, values in zip(places, asked, strict=True):
                found[place] = values[: len(examples[place].labels)]
    return found
