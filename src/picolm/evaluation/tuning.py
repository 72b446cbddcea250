"""Fine-tuning for a task: a head alone on a frozen model (a probe), or the head and a copy of the whole model.

Each learning rate is tried from the same initial values in the same order of texts. The one whose best epoch has the
highest score on the dev set is taken, with that epoch; of equal ones the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field

from picolm.config.section import PositiveReal, Seed, one_is_a_list
from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray
from picolm.evaluation.fitting import Curve, Data, Fit, Recipe, Score, by_example, fit, predict
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.progress import Meter
from picolm.evaluation.readers import FrozenReader, MovingReader, Reader
from picolm.evaluation.readout import Example, Readout
from picolm.evaluation.scoring import Engine
from picolm.model.heads import Head
from picolm.randomness import derive_seed

MakeHead = Callable[[int, torch.Generator], Head]
"""(width of the features, generator of the initial values) -> a head on the CPU."""

RATES = {"head": (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5), "full": (1e-3, 3e-4, 1e-4)}


class Tuning(Recipe):
    """How a head, or the model with it, is trained, and what is tried."""

    mode: Literal["head", "full"] = Field("head", description="train the head on a frozen model, or both")
    readout: Literal["auto", "first", "last", "mean"] = Field(
        "auto", description="the feature of a unit, of its tokens; auto: `last`, for masked models `mean`"
    )
    learning_rates: Annotated[tuple[PositiveReal, ...], BeforeValidator(one_is_a_list)] = Field(
        (), description="peaks to try, chosen on the dev set; none: the usual ones of the mode"
    )
    standardize: bool = Field(True, description="scale features by mean and sd of the training units (mode: head)")
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
        values = self.model_dump(mode="json", exclude={"standardize"} if self.mode == "full" else set())
        return {**values, "learning_rates": list(self.rates), "readout": self.readout_of(is_causal=is_causal)}


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best of what was trained for one seed.

    Attributes:
        seed: of the head's initial values and of the order of texts.
        reader: gives the features; `MovingReader.model` is the tuned copy.
        head: the head.
        learning_rate: the peak that was chosen.
        epoch: the epoch that was chosen, from 1.
        dev_scores: of every epoch, from 1, by learning rate; empty without a dev set and where training diverged.
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
        return predict(self.reader, self.head, examples)

    def log_p(self, examples: Sequence[Example]) -> list[FloatArray]:
        """Log-probabilities of the labels of each example's units, float64 [U, K], in nats."""
        return by_example(self.reader, examples, lambda batch: self.head.log_p(batch.features, batch.mask).double())


def reader_of(engine: Engine, settings: Tuning) -> Reader:
    """What gives features in the mode of the settings; the engine's own model is left as it is in either."""
    readout = settings.readout_of(is_causal=engine.model.config.attention == "causal")
    if settings.mode == "full":
        return MovingReader(engine, readout)
    return FrozenReader(engine, readout, standardize=settings.standardize)


def tune(
    reader: Reader,
    make_head: MakeHead,
    train: Sequence[Example],
    dev: Sequence[Example],
    score: Score,
    settings: Tuning,
    *,
    meter: Meter | None = None,
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
    if not dev and len(settings.rates) > 1:
        rates = ", ".join(map(str, settings.rates))
        raise PicoLMError(f"without a dev set nothing chooses between the learning rates {rates}: name one of either")
    meter = meter or Meter()
    data = Data(train, dev, score)
    again = bool(dev and settings.curve_every and len(settings.rates) > 1)
    meter.expect(settings.epochs * len(train) * len(settings.seeds) * (len(settings.rates) + again))
    with _gradients():
        reader.begin(train, dev)
    for seed in settings.seeds:
        # Not around the `yield`: a generator that is left half-way would leave its caller in another mode.
        with _gradients(), reader.fitting():
            tuned = _tuned(reader, make_head, data, settings, seed, meter)
        yield tuned


@contextmanager
def _gradients() -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _tuned(reader: Reader, make_head: MakeHead, data: Data, settings: Tuning, seed: int, meter: Meter) -> Tuned:
    def train(rate: float, *, with_curve: bool) -> Fit:
        head = make_head(reader.width, torch.Generator().manual_seed(derive_seed(seed, "head")))
        head.to(reader.device, reader.dtype)
        return fit(
            reader.fresh(),
            head,
            data,
            settings,
            learning_rate=rate,
            seed=seed,
            with_curve=with_curve,
            advance=meter.advance,
        )

    with_curve = bool(data.dev and settings.curve_every)
    best: Fit | None = None
    scores: dict[float, Sequence[float]] = {}
    for rate in settings.rates:
        found = train(rate, with_curve=with_curve and len(settings.rates) == 1)
        scores[rate] = found.scores
        if found.epoch and (best is None or found.score > best.score):
            best = found
    if best is None:
        rates = ", ".join(map(str, settings.rates))
        raise PicoLMError(f"training diverges at every learning rate ({rates}): name smaller ones in learning_rates")
    if with_curve and len(settings.rates) > 1:
        # The same training once more: a curve of each would cost as many dev scores as there are rates.
        best = train(best.learning_rate, with_curve=True)
    return Tuned(seed, best.reader, best.head, best.learning_rate, best.epoch, scores, best.curve)
