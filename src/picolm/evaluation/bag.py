"""Which tokens a text has, as features: what can be told without reading."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from picolm.evaluation.batching import IntArray
from picolm.evaluation.readers import Batch, Reader, one_thread, padded_batch
from picolm.evaluation.readout import Example


class BagReader(Reader):
    """One feature for each token of the training texts: 1 where a text has it, else 0; a text is one unit.

    Binary features are as good as counts for short texts (Wang & Manning 2012). Nothing in it is trained.

    Args:
        train: the training texts.
        budget: tokens that are read at once.
    """

    def __init__(self, train: Sequence[Example], budget: int) -> None:
        known = np.unique(np.concatenate([piece.tokens for example in train for piece in example.pieces]))
        super().__init__(len(known), budget, torch.device("cpu"), torch.float32)
        self._known = known
        # The examples are kept too, so that an id is never another list's.
        self._read: dict[int, tuple[Sequence[Example], list[IntArray]]] = {}

    def fresh(self) -> BagReader:
        """Itself."""
        return self

    def fitting(self) -> AbstractContextManager[object]:
        """One thread, as for any head alone."""
        return one_thread()

    def training_step(self, seed: int, step: int) -> AbstractContextManager[object]:
        """Nothing."""
        return nullcontext()

    def reading(self) -> AbstractContextManager[object]:
        """No gradients."""
        return torch.no_grad()

    def batch(self, examples: Sequence[Example], places: IntArray) -> Batch:
        """Look up tokens; those that no training text has count for nothing."""
        if id(examples) not in self._read:
            self._read[id(examples)] = examples, [self._columns(example) for example in examples]
        columns = [self._read[id(examples)][1][place] for place in places]
        found = torch.zeros(len(places), self.width)
        rows = np.repeat(np.arange(len(places)), [len(own) for own in columns])
        found[torch.from_numpy(rows), torch.from_numpy(np.concatenate(columns))] = 1.0
        return padded_batch(found, np.arange(len(places)), [examples[place] for place in places])

    def _columns(self, example: Example) -> IntArray:
        assert len(example.labels) == 1
        tokens = np.concatenate([piece.tokens for piece in example.pieces])
        return np.flatnonzero(np.isin(self._known, tokens))
