"""Rows that are trees: texts that begin alike are read together, each token once, as if each text stood alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Trees:
    """Attention and positions in rows whose tokens follow a parent, in a causal model.

    A token looks at itself and at its ancestors. The mask has the shape T x T, and scores are held, so rows are meant
    to be short: for a hundred positions and narrow heads two plain matrix products are faster than a fused kernel.

    Attributes:
        positions: how many ancestors each token has, [B, T].
    """

    def __init__(self, parents: Tensor, *, device: torch.device) -> None:
        """Lay out rows.

        Args:
            parents: [B, T] on the host: the place in the row of the token before; it stands further left. -1: none.
            device: where the model is.
        """
        seen = _ancestors(parents.numpy())
        self.positions = torch.from_numpy(seen.sum(axis=2) - 1).to(device, non_blocking=True)
        barred = torch.zeros(seen.shape).masked_fill_(torch.from_numpy(~seen), -torch.inf)
        self._barred = barred[:, None, None].to(device, non_blocking=True)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix values [B, K, T, C] by rotated queries [B, H, T, C] and rotated keys [B, K, T, C]."""
        batch, n_heads, length, width = query.shape
        n_groups = key.shape[1]
        # The query heads that share a key are one tall matrix.
        tall = (query * width**-0.5).reshape(batch, n_groups, -1, width)
        scores = (tall @ key.mT).view(batch, n_groups, n_heads // n_groups, length, length) + self._barred
        weights = scores.softmax(dim=-1).view(batch, n_groups, -1, length).to(value.dtype)
        mixed: Tensor = (weights @ value).view(batch, n_heads, length, width)
        return mixed


def _ancestors(parents: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """For each token the places that it may look at, [B, T, T]."""
    n_rows, length = parents.shape
    rows = np.arange(n_rows)
    seen = np.zeros((n_rows, length, length), dtype=bool)
    for place in range(length):
        parent = parents[:, place]
        seen[:, place] = seen[rows, parent] & (parent >= 0)[:, None]
        seen[:, place, place] = True
    return seen
