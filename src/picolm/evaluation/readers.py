"""Where a head's features come from: a frozen backbone read once, or a copy of the model that is tuned with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from torch import Tensor, nn

from picolm.evaluation.readout import Example, Readout
from picolm.evaluation.scoring import Advance, Engine


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


class Reader(nn.Module, ABC):
    """From examples to features. Its parameters are what is trained beside the head.

    Attributes:
        width: D.
    """

    width: int

    def begin(self, train: Sequence[Example], advance: Advance = lambda count: None) -> None:
        """Take note of the training examples, before anything else."""
        return

    @abstractmethod
    def fresh(self) -> Reader:
        """A reader as it was before any training."""

    @abstractmethod
    def training_step(self, seed: int, step: int) -> AbstractContextManager[None]:
        """What a forward with gradient runs in; dropout is keyed by the two."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[None]:
        """What a forward without gradient runs in."""

    @abstractmethod
    def batch(self, examples: Sequence[Example], places: Sequence[int]) -> Batch:
        """Read some of the examples; a list of examples must stay the same object for as long as it is used."""


class FrozenReader(Reader):
    """A backbone that stays as it is: each list of examples is read once, and its features are kept.

    Args:
        engine: its model is left as it is.
        readout: of the tokens of each unit.
        standardize: whether features are scaled by mean and sd of the training units.
    """

    def __init__(self, engine: Engine, readout: Readout, *, standardize: bool) -> None:
        super().__init__()
        self.width = engine.model.config.d_model
        raise NotImplementedError


class MovingReader(Reader):
    """A copy of the model, all of whose parameters are tuned.

    Args:
        engine: its model is copied.
        readout: of the tokens of each unit.
    """

    def __init__(self, engine: Engine, readout: Readout) -> None:
        super().__init__()
        self.width = engine.model.config.d_model
        raise NotImplementedError
