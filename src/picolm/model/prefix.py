"""Attention of a prefix language model: the beginning of a row is seen from everywhere, the rest from behind only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Prefix:
    """A position looks at itself, at those before it, and at all of the row's prefix (Raffel et al. 2020, T5).

    The mask has the shape T x T, so rows are meant to be short.

    Attributes:
        together: which key a query may look at, [B, T queries, T keys].
    """

    def __init__(self, lengths: Tensor, length: int) -> None:
        """Lay out the mask.

        Args:
            lengths: of the prefix of each row [B], where the model is.
            length: positions of a row, T.
        """
        places = torch.arange(length, device=lengths.device)
        self.together = (places[None, :] <= places[:, None]) | (places < lengths[:, None])[:, None]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix values [B, K, T, C] by rotated queries [B, H, T, C] and rotated keys [B, K, T, C]."""
        grouped = key.shape[1] != query.shape[1]
        mask = self.together[:, None]
        mixed: Tensor = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=grouped)
        return mixed
