"""Standard errors and intervals of shares and ratios over items in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picolm.randomness import Key, generator

FloatArray = npt.NDArray[np.float64]
OUTCOMES = np.array([0.0, 0.5, 1.0])
"""Wrong, a tie, right."""


@dataclass(frozen=True, slots=True)
class Share:
    """A mean of outcomes with its uncertainty.

    Attributes:
        value: from 0 to 1.
        se: its standard error; None where one item says nothing of it.
        n: items.
    """

    value: float
    se: float | None
    n: int


def share_of(outcomes: FloatArray) -> Share:
    """Mean of outcomes; its standard error is sd / sqrt(n), with n - 1 in the sd (without ties: the binomial one)."""
    n = len(outcomes)
    return Share(float(outcomes.mean()), float(outcomes.std(ddof=1) / np.sqrt(n)) if n > 1 else None, n)


def mean_of(shares: Sequence[Share]) -> Share:
    """Unweighted mean of groups that were drawn independently: se = sqrt(sum se^2) / groups."""
    errors = [share.se for share in shares if share.se is not None]
    se = float(np.sqrt(np.sum(np.square(errors))) / len(shares)) if len(errors) == len(shares) else None
    return Share(float(np.mean([share.value for share in shares])), se, sum(share.n for share in shares))


def resampled(outcomes: FloatArray, *, draws: int, seed: int, key: Key, values: FloatArray = OUTCOMES) -> FloatArray:
    """Bootstrap means of one group, float64 [draws].

    To draw n of n items with replacement and count their outcomes is one multinomial draw of the counts.

    Args:
        outcomes: each one of `values`.
        draws: how many.
        seed: of all groups.
        key: names the group, so that no group's draws depend on another's.
        values: that an outcome can have.
    """
    counts = np.array([(outcomes == value).sum() for value in values])
    assert counts.sum() == len(outcomes)
    drawn = generator(seed, "bootstrap", key).multinomial(len(outcomes), counts / len(outcomes), size=draws)
    return np.asarray(drawn @ values / len(outcomes))


def interval(means: FloatArray) -> tuple[float, float]:
    """The percentile interval that holds 95 % of bootstrap means."""
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def resampled_mean(groups: Mapping[str, FloatArray], names: Sequence[str]) -> FloatArray:
    """Bootstrap draws of the unweighted mean over some groups, from each group's own draws."""
    return np.asarray(np.mean([groups[name] for name in names], axis=0))


def mean_in_groups(values: FloatArray, groups: npt.NDArray[np.int64]) -> tuple[float, float | None]:
    """Mean over items that were drawn in groups, such as words in texts.

    Args:
        values: of each item [N].
        groups: the number of each item's group [N].

    Returns:
        The mean, and its standard error over groups: see `ratio_error`.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(numbers, weights=values), np.bincount(numbers)
    return float(values.mean()), ratio_error(sums.astype(np.float64), counts.astype(np.float64))


def ratio_error(above: FloatArray, below: FloatArray) -> float | None:
    """Standard error of sum(above) / sum(below) over items that were drawn together, such as texts with their tokens.

    To first order, with r the ratio: sqrt(N / (N - 1) sum (above - r below)^2) / sum(below).

    Args:
        above: of each item [N].
        below: of each item [N], none negative.

    Returns:
        None where one item says nothing of it, or there is nothing below.
    """
    n, total = len(above), float(below.sum())
    if n < 2 or not total > 0:
        return None
    residuals = above - above.sum() / total * below
    return float(np.sqrt(n / (n - 1) * np.square(residuals).sum()) / total)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a probability (1927): good for few items, and at 0 and 1.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), with z = 1.96.

    Args:
        share: p, of the items that were hits.
        n: items, 1 at least.
    """
    z = 1.959963984540054
    centre = share + z**2 / (2 * n)
    half = z * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    # Rounding would leave 0 and 1 by a digit.
    low, high = ((centre + side * half) / (1 + z**2 / n) for side in (-1, 1))
    return max(low, 0.0), min(high, 1.0)
