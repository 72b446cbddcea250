"""How predicted entities agree with the right ones: precision, recall and F1 of whole names, as seqeval counts.

An entity is right when type, first and last word are. All measures follow from counts of three things, in this order:
true positives (right), false positives (predicted, but not there) and false negatives (there, but not predicted).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from picolm.evaluation.batching import IntArray
from picolm.evaluation.entities.iob2 import OUTSIDE, TYPES
from picolm.evaluation.entities.spans import Entity, entities

FloatArray = npt.NDArray[np.float64]
Tags = Sequence[str]

_NUMBERS = {kind: number for number, kind in enumerate(TYPES)}


def counts(gold: Sequence[Tags], predicted: Sequence[Tags], *, strict: bool = False) -> IntArray:
    """Count right, wrong and missed entities.

    Args:
        gold: right tags of each sentence.
        predicted: as many tags for each.
        strict: how both are read (see `entities`).

    Returns:
        For each sentence and each of `TYPES` (tp, fp, fn), [N, K, 3].
    """
    found = np.zeros((len(gold), len(TYPES), 3), dtype=np.int64)
    for row, right, own in zip(found, gold, predicted, strict=True):
        there, said = _set(right, strict), _set(own, strict)
        for place, some in enumerate((there & said, said - there, there - said)):
            for entity in some:
                row[_NUMBERS[entity.kind], place] += 1
    return found


def _set(tags: Tags, strict: bool) -> set[Entity]:
    # Most sentences have no name.
    return set() if set(tags) <= {OUTSIDE} else set(entities(tags, strict=strict))


def precision(found: npt.NDArray[np.number]) -> FloatArray:
    """The share tp / (tp + fp), [..., 3] -> [...]; 0 where nothing was predicted."""
    return _share(found[..., 0], found[..., 0] + found[..., 1])


def recall(found: npt.NDArray[np.number]) -> FloatArray:
    """The share tp / (tp + fn), [..., 3] -> [...]; 0 where nothing is there."""
    return _share(found[..., 0], found[..., 0] + found[..., 2])


def f1(found: npt.NDArray[np.number]) -> FloatArray:
    """2 tp / (2 tp + fp + fn), [..., 3] -> [...]; 0 where nothing is there and nothing was predicted."""
    return _share(2 * found[..., 0], 2 * found[..., 0] + found[..., 1] + found[..., 2])


def macro_f1(found: npt.NDArray[np.number]) -> FloatArray:
    """Unweighted mean of F1 over the types that are there or were predicted, [..., K, 3] -> [...]; 0 without any.

    F1 of all types taken together, `f1` of the sum over K, is the micro-F1 that results are reported in.
    """
    return _share(f1(found).sum(-1), (found.sum(-1) > 0).sum(-1))


def _share(part: npt.NDArray[np.number], whole: npt.NDArray[np.number]) -> FloatArray:
    return np.asarray(np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0))
