"""Keys and values of what a model has read: each further token then costs one position instead of all of them.

Shapes: B batch, T positions, D width, H query heads, K key/value heads, C head width, N capacity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class LayerCache:
    """Keys and values [B, K, N, C] of one layer; what stands beyond a row's length means nothing."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def fill(self, key: Tensor, value: Tensor, capacity: int) -> None:
        """Keep the keys and values [B, K, T, C] of the beginning, with room for `capacity` positions."""
        batch, heads, length, width = key.shape
        # Zeros, not whatever memory holds: a masked place still counts as zero times its value, and NaN would stay NaN.
        self.keys, self.values = (tensor.new_zeros(batch, heads, capacity, width) for tensor in (key, value))
        self.keys[:, :, :length], self.values[:, :, :length] = key, value

    def append(self, key: Tensor, value: Tensor, rows: Tensor, places: Tensor) -> None:
        """Keep one more position [B, K, 1, C] of each row, at its own place [B]."""
        assert self.keys is not None and self.values is not None, "the cache is filled before it is appended to"
        self.keys[rows, :, places], self.values[rows, :, places] = key[:, :, 0], value[:, :, 0]

    def keep(self, rows: Tensor) -> None:
        """Keep these rows alone."""
        assert self.keys is not None and self.values is not None
        self.keys, self.values = self.keys[rows], self.values[rows]


class KeyValueCache:
    """What one batch of sequences has left in every layer of a causal Transformer.

    The first forward reads the beginnings, filled up at their ends to one length [B, T]: causality hides the filling
    from the tokens before it. Every later forward reads one token per row [B, 1], each at its row's own position, where
    it takes the filling's place. So no row ever sees padding, and each stands at the positions it would have alone.

    Attributes:
        lengths: positions that each row has read, a number on the host: nothing waits for the device.
        capacity: positions that there is room for.
        started: whether the beginnings have been read.
    """

    def __init__(self, n_layers: int, lengths: Sequence[int], capacity: int) -> None:
        assert max(lengths) <= capacity
        self.lengths = list(lengths)
        self.capacity = capacity
        self.started = False
        self._layers = [LayerCache() for _ in range(n_layers)]
        self._rows = self._places = torch.empty(0, dtype=torch.long)
        self._mask: Tensor | None = None

    def begin(self, input_ids: Tensor) -> Tensor:
        """Start a forward; return the positions of its tokens: [T] for the beginnings, [B, 1] later."""
        batch, length = input_ids.shape
        assert batch == len(self.lengths)
        if not self.started:
            assert length == max(self.lengths)
            return torch.arange(length, device=input_ids.device)
        assert length == 1 and max(self.lengths) < self.capacity, "one token at a time, as long as there is room"
        self._rows = torch.arange(batch, device=input_ids.device)
        self._places = torch.tensor(self.lengths, device=input_ids.device)
        # Rows of one length need no mask, and the fastest kernels take none.
        ragged = min(self.lengths) < max(self.lengths)
        reach = torch.arange(max(self.lengths) + 1, device=input_ids.device)
        self._mask = (reach <= self._places[:, None])[:, None, None] if ragged else None
        return self._places[:, None]

    def end(self) -> None:
        """Finish a forward: what it read counts from now on."""
        if self.started:
            self.lengths = [length + 1 for length in self.lengths]
        self.started = True

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Take in one layer's keys and values [B, K, T, C] and look them, and all before them, up.

        Args:
            layer: number of the layer.
            query: rotated queries [B, H, T, C].
            key: rotated keys.
            value: values.

        Returns:
            The mixed values [B, H, T, C].
        """
        memory = self._layers[layer]
        if not self.started:
            memory.fill(key, value, self.capacity)
            grouped = query.shape[1] != key.shape[1]
            return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
        memory.append(key, value, self._rows, self._places)
        assert memory.keys is not None and memory.values is not None
        reach = max(self.lengths) + 1
        # With one position there is no order to keep, so the heads that share a key take the place of positions: the
        # shared keys are read once, and kernels that know neither groups nor masks over groups serve as well.
        groups = query.reshape(query.shape[0], key.shape[1], -1, query.shape[3])
        keys, values = memory.keys[:, :, :reach], memory.values[:, :, :reach]
        mixed = F.scaled_dot_product_attention(groups, keys, values, attn_mask=self._mask)
        return mixed.reshape(query.shape)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows alone, in this order: the others have ended."""
        self.lengths = [self.lengths[row] for row in rows]
        chosen = torch.tensor(rows)
        for memory in self._layers:
            memory.keep(chosen)
