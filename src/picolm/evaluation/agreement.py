"""How predicted labels agree with the right ones: accuracy, F1, and Matthews' correlation.

All three follow from how often each label is right, is predicted and is there, so that is all that is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from picolm.evaluation.batching import IntArray
from picolm.evaluation.statistics import share_of
from picolm.randomness import Key, generator

FloatArray = npt.NDArray[np.float64]
_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of K labels; leading dimensions are draws.

    Attributes:
        right: texts of each label that got it, [..., K].
        predicted: texts that got each label, [..., K].
        gold: texts of each label, [..., K].
    """

    right: FloatArray
    predicted: FloatArray
    gold: FloatArray

    @classmethod
    def of(cls, gold: IntArray, predicted: IntArray, n_labels: int, weights: FloatArray | None = None) -> Counts:
        """Count.

        Args:
            gold: right labels [N].
            predicted: labels [N].
            n_labels: K.
            weights: how often each text counts, [..., N]; None: once.
        """
        own = np.ones(len(gold)) if weights is None else weights
        one_hot = np.eye(n_labels)
        right = (gold == predicted)[:, None] * one_hot[gold]
        return cls(own @ right, own @ one_hot[predicted], own @ one_hot[gold])

    def accuracy(self) -> FloatArray:
        """Share of texts that got their label, [...]."""
        return np.asarray(self.right.sum(-1) / self.gold.sum(-1))

    def f1(self, label: int) -> FloatArray:
        """2 right / (predicted + gold) of one label: the harmonic mean of precision and recall; 0 for 0 / 0."""
        return np.nan_to_num(self._f1()[..., label])

    def macro_f1(self) -> FloatArray:
        """Mean of F1 over the labels that are there or are predicted, as scikit-learn averages, [...]."""
        f1 = self._f1()
        return np.asarray(np.nansum(f1, axis=-1) / (~np.isnan(f1)).sum(-1))

    def mcc(self) -> FloatArray:
        """R_K of Gorodkin (2004), for two labels Matthews' correlation coefficient, [...]; 0 for 0 / 0.

        With n texts, c of them right, p_k predicted and t_k there:
        (c n - sum p_k t_k) / sqrt((n^2 - sum p_k^2) (n^2 - sum t_k^2)).
        """
        n = self.gold.sum(-1)
        above = self.right.sum(-1) * n - (self.predicted * self.gold).sum(-1)
        below = (n**2 - (self.predicted**2).sum(-1)) * (n**2 - (self.gold**2).sum(-1))
        return np.asarray(np.where(below > 0, above / np.sqrt(np.where(below > 0, below, 1.0)), 0.0))

    def _f1(self) -> FloatArray:
        """[..., K], NaN for a label that is neither there nor predicted."""
        there = self.predicted + self.gold
        return np.where(there > 0, 2 * self.right / np.where(there > 0, there, 1.0), np.nan)


def resampled_counts(
    gold: IntArray, predicted: Sequence[IntArray], n_labels: int, *, draws: int, key: Key
) -> list[Counts]:
    """Bootstrap draws of texts, the same for all predictions.

    To draw N of N texts with replacement is one multinomial draw of how often each pattern of labels comes.

    Args:
        gold: right labels [N].
        predicted: labels of each prediction, [N] each.
        n_labels: K.
        draws: how many.
        key: names the texts.

    Returns:
        For each prediction counts [draws, K].
    """
    patterns, times = np.unique(np.stack([gold, *predicted]), axis=1, return_counts=True)
    drawn = generator(0, "bootstrap", key).multinomial(len(gold), times / len(gold), size=draws).astype(np.float64)
    return [Counts.of(patterns[0], own, n_labels, drawn) for own in patterns[1:]]


class Measured(NamedTuple):
    """One measure of predictions that were made by several seeds.

    Attributes:
        value: mean over the seeds.
        se: over the texts, as they are a sample; None where there is one.
        seed_sd: over the seeds; None where there is one.
    """

    value: float
    se: float | None
    seed_sd: float | None


def measures(counts: Counts, positive: int | None) -> dict[str, FloatArray]:
    """All measures, each [...]; `f1` is that of the positive label, where there is one."""
    f1 = {} if positive is None else {"f1": counts.f1(positive)}
    return {"accuracy": counts.accuracy(), **f1, "macro_f1": counts.macro_f1(), "mcc": counts.mcc()}


def measured(
    gold: IntArray, predicted: Sequence[IntArray], n_labels: int, *, positive: int | None, key: Key
) -> dict[str, Measured]:
    """Measure predictions of the same texts by several seeds.

    The error of accuracy is sd / sqrt(N) over texts, of the share of seeds that got each right; those of the others are
    from 1,000 bootstrap draws of texts.

    Args:
        gold: right labels [N].
        predicted: labels by each seed, [N] each.
        n_labels: K.
        positive: the label that `f1` is of.
        key: names the texts.
    """
    by_seed = [measures(Counts.of(gold, own, n_labels), positive) for own in predicted]
    draws = [
        measures(counts, positive) for counts in resampled_counts(gold, predicted, n_labels, draws=_DRAWS, key=key)
    ]
    found = {}
    for name in by_seed[0]:
        values = np.array([float(own[name]) for own in by_seed])
        spread = float(np.mean([own[name] for own in draws], axis=0).std(ddof=1))
        if name == "accuracy":
            error = share_of(np.mean([own == gold for own in predicted], axis=0)).se
        else:
            error = spread if len(gold) > 1 else None
        sd = float(values.std(ddof=1)) if len(values) > 1 else None
        found[name] = Measured(float(values.mean()), error, sd)
    return found
