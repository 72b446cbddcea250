"""Where a head's features come from: a frozen backbone read once, or a copy of the model that is tuned with it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from picolm.evaluation.batching import IntArray
from picolm.evaluation.readout import Example, Readout, begins, feature_dtype, features, read_pieces
from picolm.evaluation.scoring import Engine
from picolm.randomness import derive_seed

_CONSTANT = 1e-6
"""A feature whose sd is less than this share of its mean is constant but for rounding."""


class Batch(NamedTuple):
    """Units of some texts.

    Attributes:
        features: [B, U, D].
        labels: int64 [B, U].
        mask: True at units, False at padding [B, U].
    """

    features: Tensor
    labels: Tensor
    mask: Tensor


def padded_batch(found: Tensor, starts: IntArray, examples: Sequence[Example]) -> Batch:
    """Take the units of some texts out of a list of units.

    Args:
        found: features of units, [N, D].
        starts: where the units of each text begin in it, [B].
        examples: the texts.
    """
    counts = np.array([len(example.labels) for example in examples])
    mask = np.arange(counts.max()) < counts[:, None]
    rows = np.where(mask, starts[:, None] + np.arange(counts.max()), 0)
    labels = np.zeros(mask.shape, dtype=np.int64)
    labels[mask] = np.concatenate([example.labels for example in examples])
    device = found.device
    chosen = found.index_select(0, torch.from_numpy(rows.ravel()).to(device)).view(*rows.shape, -1)
    return Batch(chosen, torch.from_numpy(labels).to(device), torch.from_numpy(mask).to(device))


class Reader(nn.Module, ABC):
    """From examples to features. Its parameters are what is trained beside the head.

    Args:
        width: D.
        budget: tokens that are read at once without gradient.
        device: where features are.
        dtype: of features, and of the head.
    """

    def __init__(self, width: int, budget: int, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.width, self.budget, self.device, self.dtype = width, budget, device, dtype

    def begin(self, train: Sequence[Example], dev: Sequence[Example]) -> None:
        """Take note of what training reads again and again, before it."""
        return

    def fitting(self) -> AbstractContextManager[object]:
        """What a whole training runs in."""
        return nullcontext()

    @abstractmethod
    def fresh(self) -> Reader:
        """A reader as this one was before any training."""

    @abstractmethod
    def training_step(self, seed: int, step: int) -> AbstractContextManager[object]:
        """What a forward with gradient runs in; dropout is keyed by the two."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[object]:
        """What a forward without gradient runs in."""

    @abstractmethod
    def batch(self, examples: Sequence[Example], places: IntArray) -> Batch:
        """Read some of the examples; a list of examples must stay as it is for as long as it is used."""


class FrozenReader(Reader):
    """A backbone that stays as it is: each list of examples is read once, and its features are kept.

    Args:
        engine: its model is left as it is.
        readout: of the tokens of each unit.
        standardize: whether features are scaled by mean and sd of the training units.
    """

    def __init__(self, engine: Engine, readout: Readout, *, standardize: bool) -> None:
        super().__init__(engine.model.config.d_model, engine.budget, engine.device, feature_dtype(engine))
        self._engine, self._readout, self._standardize = engine, readout, standardize
        self._scale: tuple[Tensor, Tensor] | None = None
        # The examples are kept too, so that an id is never another list's.
        self._read: dict[int, tuple[Sequence[Example], Tensor, IntArray]] = {}

    def begin(self, train: Sequence[Example], dev: Sequence[Example]) -> None:
        """Read both, and scale by the training examples."""
        found = features(self._engine, train, self._readout)
        if self._standardize:
            variance, mean = torch.var_mean(found, dim=0, correction=0)
            sd = variance.sqrt()
            self._scale = mean, torch.where(sd > _CONSTANT * mean.abs(), sd, 1.0)
        self._keep(train, found)
        self._keep(dev, features(self._engine, dev, self._readout))

    def fitting(self) -> AbstractContextManager[object]:
        """One thread: so little work is not worth sharing, and then no sum depends on the number of cores."""
        return one_thread()

    def fresh(self) -> FrozenReader:
        """Itself: nothing in it is trained."""
        return self

    def training_step(self, seed: int, step: int) -> AbstractContextManager[object]:
        """Nothing: the features are there."""
        return nullcontext()

    def reading(self) -> AbstractContextManager[object]:
        """No gradients."""
        return torch.no_grad()

    def batch(self, examples: Sequence[Example], places: IntArray) -> Batch:
        """Take features from what was read."""
        if id(examples) not in self._read:
            self._keep(examples, features(self._engine, examples, self._readout))
        _, found, starts = self._read[id(examples)]
        return padded_batch(found, starts[places], [examples[place] for place in places])

    def _keep(self, examples: Sequence[Example], found: Tensor) -> None:
        if self._scale is not None:
            mean, sd = self._scale
            found.sub_(mean).div_(sd)
        self._read[id(examples)] = examples, found, begins(examples)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class MovingReader(Reader):
    """A model that is tuned, with all of its parameters that can be.

    Args:
        engine: its model is what moves; `fresh` gives a reader with a copy of it.
        readout: of the tokens of each unit.

    Attributes:
        model: the model.
    """

    def __init__(self, engine: Engine, readout: Readout) -> None:
        super().__init__(engine.model.config.d_model, engine.budget, engine.device, feature_dtype(engine))
        self.model = engine.model
        self._engine, self._readout = engine, readout

    def fresh(self) -> MovingReader:
        """A reader with a copy of the model."""
        model = copy.deepcopy(self.model)
        model.zero_grad(set_to_none=True)
        return MovingReader(replace(self._engine, model=model), self._readout)

    @contextmanager
    def training_step(self, seed: int, step: int) -> Iterator[None]:
        """Dropout as the model's configuration has it, and the engine's precision."""
        self.model.train()
        device, bf16 = self._engine.device, self._engine.precision == "bf16"
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            torch.compiler.set_stance("force_eager"),
            torch.autocast(device.type, torch.bfloat16, enabled=bf16),
        ):
            torch.manual_seed(derive_seed(seed, "dropout", step))
            yield

    def reading(self) -> AbstractContextManager[object]:
        """Evaluation mode, the engine's precision, no gradients."""
        return self._engine.reading()

    def batch(self, examples: Sequence[Example], places: IntArray) -> Batch:
        """Read pieces; their units may come in any order."""
        chosen = [examples[place] for place in places]
        starts = begins(chosen)
        pieces = [piece for example in chosen for piece in example.pieces]
        owners = np.repeat(np.arange(len(chosen)), [len(example.pieces) for example in chosen])
        units = [starts[owner] + piece.units for owner, piece in zip(owners, pieces, strict=True)]
        found = read_pieces(self.model, pieces, self._readout, self._engine.device)
        order = torch.from_numpy(np.argsort(np.concatenate(units))).to(found.device)
        return padded_batch(found.index_select(0, order), starts[:-1], chosen)
