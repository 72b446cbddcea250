"""Batches of about equal work: sequences of similar length together, as many as a budget of tokens holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from picolm.randomness import generator

IntArray = npt.NDArray[np.int64]
_BATCHES_IN_A_STRETCH = 50


def bucketed(lengths: Sequence[int], budget: int) -> Iterator[IntArray]:
    """Part sequences into batches.

    Args:
        lengths: of the sequences, in tokens.
        budget: the largest rows x longest length of a batch; a sequence that is longer has a batch of its own.

    Yields:
        Places in `lengths`, every one of them once; the longest come first, so that memory does not grow later.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, budget // max(1, lengths[int(order[start])]))
        yield order[start : start + rows]
        start += rows


def padded(sequences: Sequence[IntArray], filler: int) -> Tensor:
    """Put sequences into one tensor [B, longest], those that are shorter filled up at their ends."""
    rows = np.full((len(sequences), max(map(len, sequences))), filler, dtype=np.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return torch.from_numpy(rows)


def shuffled(lengths: Sequence[int], rows: int, *, seed: int, epoch: int) -> list[IntArray]:
    """Part sequences into batches of similar length in a keyed order, another one in each epoch.

    All are shuffled; each stretch of `_BATCHES_IN_A_STRETCH` batches is sorted by length and cut; all batches are
    shuffled. So there is little padding, and no length has its own time.

    Args:
        lengths: of the sequences.
        rows: of a batch; the shortest stretch may leave fewer in one.
        seed: of the order.
        epoch: number of the pass.

    Returns:
        Places in `lengths`, every one of them once.
    """
    draw = generator(seed, "order of texts", epoch)
    order = draw.permutation(len(lengths))
    known = np.asarray(lengths, dtype=np.int64)
    batches: list[IntArray] = []
    for start in range(0, len(order), rows * _BATCHES_IN_A_STRETCH):
        stretch = order[start : start + rows * _BATCHES_IN_A_STRETCH]
        stretch = stretch[np.argsort(known[stretch], kind="stable")]
        batches += [stretch[first : first + rows] for first in range(0, len(stretch), rows)]
    return [batches[number] for number in draw.permutation(len(batches))]
