"""What was answered to questions, question by question, and the figures of a group of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from picolm.evaluation.batching import IntArray
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.statistics import interval, resampled, share_of
from picolm.evaluation.task import Figure

_LARGEST = 700.0
"""Beyond e^700 a double overflows."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to Q questions.

    Attributes:
        outcomes: what each is worth, from 0 to 1, float64 [Q], by the metric that is their share.
        ties: whether several choices were best, 0 or 1, int64 [Q], by the metric that counts them.
        means: other values of each question, float64 [Q], by the metric that is their mean.
        nats: minus the log-probability of the one right continuation, float64 [Q], where no choices are given.
    """

    outcomes: Mapping[str, FloatArray]
    ties: Mapping[str, IntArray] = field(default_factory=dict)
    means: Mapping[str, FloatArray] = field(default_factory=dict)
    nats: FloatArray | None = None

    def figures(self, subset: str, places: Sequence[int], suffix: str = "") -> list[Figure]:
        """Shares in per cent, counts of ties, means, and perplexity, of some questions.

        Args:
            subset: their group.
            places: which they are.
            suffix: of the metrics' names.
        """
        n = len(places)
        figures = [per_cent(subset, name + suffix, own[places]) for name, own in self.outcomes.items()]
        figures += [Figure(subset, name + suffix, int(own[places].sum()), None, n) for name, own in self.ties.items()]
        for name, values in self.means.items():
            mean = share_of(values[places])
            figures.append(Figure(subset, name + suffix, mean.value, mean.se, n))
        if self.nats is not None:
            loss = share_of(self.nats[places])
            perplexity = math.exp(min(loss.value, _LARGEST))
            # d exp(x) = exp(x) dx.
            figures.append(
                Figure(subset, "perplexity" + suffix, perplexity, None if loss.se is None else perplexity * loss.se, n)
            )
        return figures


def accuracy_interval(subset: str, outcomes: FloatArray, *, draws: int, seed: int) -> list[Figure]:
    """The 95 % interval of a share, in per cent, by a bootstrap over questions."""
    means = resampled(outcomes, draws=draws, seed=seed, key=subset, values=np.unique(outcomes))
    low, high = interval(means)
    return [
        Figure(subset, "accuracy_low", 100 * low, None, len(outcomes)),
        Figure(subset, "accuracy_high", 100 * high, None, len(outcomes)),
    ]


def per_cent(subset: str, metric: str, outcomes: FloatArray) -> Figure:
    """A share in per cent with its standard error."""
    share = share_of(outcomes)
    return Figure(subset, metric, 100 * share.value, None if share.se is None else 100 * share.se, share.n)
