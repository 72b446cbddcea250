"""Whether two properties of layers go together, tested by permutation of layers or of seeds.

Layers of one model are neighbours that feed each other, and depth alone can move both properties: a p value over them
asks whether the two *profiles over depth* fit better than one does with a reordered one. Repetitions are exchangeable
by construction: over seeds the profile is taken out, and what is asked is whether the model in which a layer's rank is
larger than usual is also the one in which it settles earlier than usual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
import numpy.typing as npt

from picolm.errors import PicoLMError
from picolm.randomness import generator

FloatArray = npt.NDArray[np.float64]
Over = Literal["layers", "seeds"]
_MOST = 20_000
"""Orders that are looked at one by one; of more, as many are drawn."""
_LISTED = 8
"""A cell of more units has too many orders to list."""


@dataclass(frozen=True, slots=True)
class Linkage:
    """How far two properties go together.

    Attributes:
        value: correlation pooled over cells, from -1 to 1; None where a property is the same everywhere, or there is
            nothing to permute.
        p_value: two-sided, share of orders with a correlation at least as far from 0; None as `value`.
        orders: how many orders were looked at.
        exact: whether these are all that there are.
    """

    value: float | None
    p_value: float | None
    orders: int
    exact: bool


def linkage(
    cells: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    over: Over = "layers",
    ranks: bool = True,
    most: int = _MOST,
    seed: int = 0,
) -> Linkage:
    """Correlate two properties within strata, and permute one of them.

    Over layers, each seed's values are compared within that seed, and one order of the layers is taken for all seeds of
    a size: they share their depth, so that three seeds do not count as three times as many layers. Over seeds, the
    values of each layer are compared within that layer, and whole models are permuted.

    Args:
        cells: for each size, both properties, [seeds, layers]; infinite values are ranked, as the last.
        over: what is permuted.
        ranks: correlate ranks within strata (Spearman) and not the values (Pearson; of two yes-or-no properties,
            Matthews' correlation).
        most: how many orders are looked at; where there are more, so many are drawn.
        seed: of those that are drawn.

    Raises:
        PicoLMError: the properties of a cell have other shapes, one is not a number, or is infinite and not ranked.
    """
    pairs = [_oriented(x, y, over) for x, y in cells]
    scored = [(_centred(x, ranks), _centred(y, ranks)) for x, y in pairs]
    scale = math.sqrt(sum(float((x**2).sum()) for x, _ in scored) * sum(float((y**2).sum()) for _, y in scored))
    # [units, units]: what each unit of y is worth in the place of each of x, over all strata.
    worths = [x.T @ y for x, y in scored]
    if scale < 1e-12 or all(len(worth) < 2 for worth in worths):
        return Linkage(None, None, 0, True)
    observed = sum(float(np.trace(worth)) for worth in worths)
    sums, exact = _permuted(worths, most, seed)
    beyond = int((np.abs(sums) >= abs(observed) - 1e-9 * scale).sum())
    # The order that was observed is one of the possible ones; of a sample it is added.
    p_value = beyond / len(sums) if exact else (beyond + 1) / (len(sums) + 1)
    return Linkage(observed / scale, p_value, len(sums), exact)


def _oriented(x: npt.ArrayLike, y: npt.ArrayLike, over: Over) -> tuple[FloatArray, FloatArray]:
    """Both as [strata, units]: what is permuted is last."""
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.ndim != 2 or first.shape != second.shape:
        raise PicoLMError(f"a cell needs two tables of seeds and layers alike, not {first.shape} and {second.shape}")
    if np.isnan(first).any() or np.isnan(second).any():
        raise PicoLMError("a value of a layer is not known: leave its part out")
    return (first, second) if over == "layers" else (first.T, second.T)


def _centred(values: FloatArray, ranks: bool) -> FloatArray:
    """Values or ranks of each stratum less their mean."""
    if not ranks and not np.isfinite(values).all():
        raise PicoLMError("an infinite value can be ranked but not averaged")
    scores = np.stack([_ranked(row) for row in values]) if ranks else values
    centred: FloatArray = scores - scores.mean(axis=1, keepdims=True)
    return centred


def _ranked(row: FloatArray) -> FloatArray:
    """Ranks from 1, ties in the middle."""
    _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: FloatArray = last - (counts - 1) / 2
    return middle[inverse]


def _permuted(worths: Sequence[FloatArray], most: int, seed: int) -> tuple[FloatArray, bool]:
    """The sum under each order: all of them where they are few enough, else a sample."""
    if math.prod(math.factorial(min(len(worth), 20)) for worth in worths) <= most:
        sums = np.zeros(1)
        for worth in worths:
            sums = (sums[:, None] + _worth_of(worth, _orders(len(worth)))[None, :]).ravel()
        return sums, True
    draw = generator(seed, "linkage")
    sums = np.zeros(most)
    for worth in worths:
        n = len(worth)
        if n <= _LISTED:
            every = _worth_of(worth, _orders(n))
            sums += every[draw.integers(len(every), size=most)]
        else:
            sums += _worth_of(worth, draw.permuted(np.tile(np.arange(n), (most, 1)), axis=1))
    return sums, False


def _orders(n: int) -> npt.NDArray[np.int64]:
    return np.array(list(permutations(range(n))), dtype=np.int64).reshape(-1, n)


def _worth_of(worth: FloatArray, orders: npt.NDArray[np.int64]) -> FloatArray:
    found: FloatArray = worth[np.arange(len(worth)), orders].sum(axis=1)
    return found
