"""Scorers that know no grammar: what they get right, a test gives away for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picolm.data.split import Split
from picolm.evaluation.batching import IntArray
from picolm.evaluation.likelihood import FloatArray

_TOKENS_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True)
class Unigram:
    """Sums of log-probabilities of tokens regardless of their order, with one added to each count.

    Attributes:
        counts: of each token, int64 [V].
        origin: what was counted.
    """

    counts: npt.NDArray[np.int64]
    origin: str

    @classmethod
    def of_training(cls, split: Split, vocab_size: int) -> Unigram:
        """Count the training tokens of a run."""
        counts = np.zeros(vocab_size, dtype=np.int64)
        for start in range(0, split.n_tokens, _TOKENS_AT_ONCE):
            counts += np.bincount(
                split.tokens(start, min(start + _TOKENS_AT_ONCE, split.n_tokens)), minlength=vocab_size
            )
        return cls(counts, "the run's training tokens")

    @classmethod
    def of_sentences(cls, sentences: Sequence[IntArray], vocab_size: int) -> Unigram:
        """Count the sentences of a test itself, the good and the bad alike: they tell frequent words from rare ones."""
        counts = np.bincount(np.concatenate([np.empty(0, dtype=np.int64), *sentences]), minlength=vocab_size)
        return cls(counts, "the sentences of the task")

    def score(self, sentences: Sequence[IntArray]) -> FloatArray:
        """Nats [N]; sentences of the same tokens, in whatever order, are equal to the last bit."""
        log_p = np.log((self.counts + 1) / (self.counts.sum() + len(self.counts)))
        # Added in the order of their ids: sums in another order would differ in the last digit, and ties look decided.
        rows = np.repeat(np.arange(len(sentences)), [len(ids) for ids in sentences])
        tokens = np.concatenate([np.empty(0, dtype=np.int64), *(np.sort(ids) for ids in sentences)])
        return np.asarray(np.bincount(rows, weights=log_p[tokens], minlength=len(sentences)), dtype=np.float64)


def by_length(sentences: Sequence[IntArray]) -> FloatArray:
    """The shorter, the better: minus the number of tokens [N]."""
    return -np.array([len(ids) for ids in sentences], dtype=np.float64)


def constant(sentences: Sequence[IntArray]) -> FloatArray:
    """The same for all [N]: it must be right in exactly half of all pairs, or ties are counted wrongly."""
    return np.zeros(len(sentences))
