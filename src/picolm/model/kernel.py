"""The core of attention: from rotated queries, rotated keys and values to mixed values, and what it looked at.

Shapes: B batch, T positions, H query heads, K key/value heads, C head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picolm.model.prefix import Prefix
from picolm.model.segments import Segments

Mix = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From rotated queries, rotated keys and values to mixed values, otherwise than by one look at the whole row: by way of
a cache (`KeyValueCache.attend`), within documents (`Segments`) or with a prefix that is seen whole (`Prefix`)."""


class Kernel(nn.Module):
    """Mixes values through PyTorch's fused kernels: no T x T mask or score is held.

    It has no parameters. It is a module so that an ordinary forward hook sees queries, keys and values.
    """

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None, mix: Mix | None) -> Tensor:
        """Return the mixed values [B, H, T, C].

        Args:
            query: rotated [B, H, T, C].
            key: rotated [B, K, T, C].
            value: [B, K, T, C].
            key_mask: True where a key may be looked at [B, 1, 1, T]; None: everywhere.
            mix: another way than one look at the whole row.
        """
        if mix is not None:
            return mix(query, key, value)
        grouped = key.shape[1] != query.shape[1]
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=key_mask, is_causal=self.causal, enable_gqa=grouped
        )

    @torch.no_grad()
    def pattern(self, query: Tensor, key: Tensor, key_mask: Tensor | None, mix: Mix | None) -> Tensor:
        """Return the probabilities with which `forward` mixes, [B, H, T queries, T keys], in float32 at least.

        For those who look on; without gradient.

        softmax(q k / sqrt(C)) over the keys that a query may look at: those before it and itself where attention is
        causal, those that are no padding, those of its own document. A query with no such key has zeros.

        Args:
            query: as `forward`.
            key: as `forward`.
            key_mask: as `forward`.
            mix: None, `Segments` or `Prefix`; a cache has no whole row to look at.
        """
        assert mix is None or isinstance(mix, Segments | Prefix), "patterns are computed from whole rows"
        precise = torch.promote_types(query.dtype, torch.float32)
        keys = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        scores = query.to(precise) @ keys.to(precise).mT / math.sqrt(query.shape[-1])
        hidden = torch.zeros(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        if self.causal and not isinstance(mix, Prefix):
            hidden = torch.ones_like(hidden).triu(1)
        if key_mask is not None:
            hidden = hidden | ~key_mask
        if mix is not None:
            hidden = hidden | ~mix.together[:, None]
        # Zeros, not NaN, where everything is hidden.
        return scores.masked_fill(hidden, -torch.inf).softmax(dim=-1).masked_fill(hidden, 0.0)
