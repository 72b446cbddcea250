"""A beginning and several ways to go on, read together: the beginning once, each way as if it alone followed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Branches:
    """Attention and positions of rows that are a beginning followed by branches, in a causal model.

    A position looks at the beginning and at its own branch up to itself. The mask has the shape T x T, so rows are
    meant to be short.

    Attributes:
        positions: where each token would stand if its branch were the only one, [B, T].
    """

    def __init__(self, branches: Tensor, *, device: torch.device) -> None:
        """Lay out rows.

        Args:
            branches: [B, T] on the host: 0 for the beginning, then 1, 2, ... for the tokens of each branch, ascending.
            device: where the model is.
        """
        length = branches.shape[1]
        own = branches[:, :, None] == branches[:, None, :]
        seen = torch.ones(length, length, dtype=torch.bool).tril() & (own | (branches == 0)[:, None, :])
        self.positions = (seen.sum(dim=2) - 1).to(device, non_blocking=True)
        self._seen = seen[:, None].to(device, non_blocking=True)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix values [B, K, T, C] by rotated queries [B, H, T, C] and rotated keys [B, K, T, C]."""
        grouped = key.shape[1] != query.shape[1]
        return F.scaled_dot_product_attention(query, key, value, attn_mask=self._seen, enable_gqa=grouped)
