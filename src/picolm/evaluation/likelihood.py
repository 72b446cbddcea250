"""From hidden states to log-probabilities of chosen tokens: logits at chosen places only, and each place once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from picolm.evaluation.batching import IntArray

FloatArray = npt.NDArray[np.float64]


class Likelihood(NamedTuple):
    """What an output matrix says of tokens at places, one entry for each pair of them.

    Attributes:
        log_p: log softmax(h W^T)[token] in nats, float64 [S].
        is_largest: whether no token has a larger logit, and none with a lower id the same, [S].
    """

    log_p: FloatArray
    is_largest: npt.NDArray[np.bool_]


def likelihood(
    hidden: Tensor,
    output_matrix: Tensor,
    places: IntArray,
    targets: IntArray,
    *,
    rows: int,
    dtype: torch.dtype,
    wants_largest: bool = False,
) -> Likelihood:
    """Score tokens at places.

    Where several tokens are scored at one place, its logits are computed once. They are computed `rows` places at a
    time into memory that is used again; the softmax is in float32 at least.

    Args:
        hidden: [..., D].
        output_matrix: W [V, D].
        places: in `hidden` without its last dimension, flattened; in any order, [S].
        targets: the token that is scored at each, [S].
        rows: of how many places logits are held at once.
        dtype: in which the matrix product is computed.
        wants_largest: whether `is_largest` is wanted; it is all False where not.
    """
    order = np.argsort(places, kind="stable")
    distinct, first = np.unique(places[order], return_index=True)
    flat = hidden.flatten(0, -2)
    chosen = flat.index_select(0, torch.from_numpy(distinct).to(flat.device)).to(dtype)
    columns = output_matrix.to(dtype).T
    row_of = torch.from_numpy(np.repeat(np.arange(len(distinct)), np.diff(first, append=len(order)))).to(flat.device)
    wanted = torch.from_numpy(targets[order]).to(flat.device)
    bounds = np.append(first, len(order))
    log_p, largest = [], []
    for start, logits in _chunks(chosen, columns, rows):
        own = slice(int(bounds[start]), int(bounds[min(start + rows, len(distinct))]))
        row, token = row_of[own] - start, wanted[own]
        score = logits[row, token]
        if wants_largest:
            largest.append(logits.argmax(1)[row] == token)
        log_p.append(score - _normalizer(logits)[row])
    found = Likelihood(np.empty(len(order)), np.zeros(len(order), dtype=np.bool_))
    found.log_p[order] = torch.cat(log_p).double().cpu().numpy()
    if wants_largest:
        found.is_largest[order] = torch.cat(largest).cpu().numpy()
    return found


def _chunks(chosen: Tensor, columns: Tensor, rows: int) -> Iterator[tuple[int, Tensor]]:
    """Where each chunk of places begins, and its logits, which live until the next."""
    held = chosen.new_empty((min(rows, len(chosen)), columns.shape[1]))
    for start in range(0, len(chosen), rows):
        some = chosen[start : start + rows]
        logits = torch.mm(some, columns, out=held[: len(some)])
        yield start, logits.float() if logits.dtype.itemsize < 4 else logits


def _normalizer(logits: Tensor) -> Tensor:
    """Log of the sum of exp(logits), [N]; in place, since a second array of that size would cost as much again."""
    most = logits.amax(1, keepdim=True)
    return logits.sub_(most).exp_().sum(1).log_().add_(most[:, 0])
