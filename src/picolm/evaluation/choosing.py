"""From the scores of choices to answers: which is best, what a tie is worth, how probable the right one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray
from picolm.evaluation.likelihood import FloatArray


@dataclass(frozen=True, slots=True)
class Ballot:
    """Which of N scores that stand in a row belong to which of Q questions, and which is of the right choice.

    Attributes:
        starts: place of each question's first choice, int64 [Q].
        sizes: how many choices each has, one at least, int64 [Q].
        answers: place of each question's right choice, int64 [Q].
    """

    starts: IntArray
    sizes: IntArray
    answers: IntArray

    @classmethod
    def of(cls, sizes: Sequence[int], answers: Sequence[int]) -> Ballot:
        """Lay out questions.

        Args:
            sizes: how many choices each has.
            answers: the number of the right one among its own.
        """
        counts = np.array(sizes, dtype=np.int64)
        starts = np.cumsum(counts) - counts
        return cls(starts, counts, starts + np.array(answers, dtype=np.int64))

    @property
    def chance(self) -> FloatArray:
        """What guessing is worth, [Q]."""
        return 1.0 / self.sizes

    def outcomes(self, scores: FloatArray) -> FloatArray:
        """What the best choice is worth, [Q]: 1 where it is right, 1/m where the right one is among m best, else 0.

        Args:
            scores: [N]; the higher, the better.

        Raises:
            PicoLMError: a score is no number: the model is broken.
        """
        best, tied = self._best(scores)
        return np.asarray((scores[self.answers] == best) / tied)

    def ties(self, scores: FloatArray) -> IntArray:
        """Whether several choices are best, 1 or 0, [Q]."""
        return (self._best(scores)[1] > 1).astype(np.int64)

    def probabilities(self, log_p: FloatArray) -> FloatArray:
        """Share of the right choice in the probability of all of its question's, [Q]."""
        best, _ = self._best(log_p)
        masses = np.exp(log_p - np.repeat(best, self.sizes))
        return np.asarray(masses[self.answers] / np.add.reduceat(masses, self.starts))

    def _best(self, scores: FloatArray) -> tuple[FloatArray, IntArray]:
        if not np.isfinite(scores).all():
            raise PicoLMError("the model gives a choice a log-probability that is not finite: its weights are broken")
        best = np.maximum.reduceat(scores, self.starts)
        tied = np.add.reduceat((scores == np.repeat(best, self.sizes)).astype(np.int64), self.starts)
        return best, tied
