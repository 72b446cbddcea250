"""Attention and positions that stop where a document ends, without any T x T mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Segments:
    """The stretches of a batch that look at themselves only: the runs of one document in one row.

    Stretches of equal length are attended to together, each as a row of its own, so the fused kernels do the work and
    the cost is the sum of squared lengths.
    """

    def __init__(self, documents: Tensor, *, causal: bool, device: torch.device) -> None:
        """Find the borders.

        Args:
            documents: numbers [B, T] on the host, so that nothing waits for a device; equal neighbours belong together.
                Padding gets a number that no document has.
            causal: whether a position may look at earlier ones only.
            device: where the model is.
        """
        assert documents.device.type == "cpu"
        rows, length = documents.shape
        begins = torch.ones(rows, length, dtype=torch.bool)
        begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
        starts = begins.flatten().nonzero().flatten()
        lengths = torch.diff(starts, append=torch.tensor([rows * length]))
        self.causal = causal
        places = torch.arange(rows * length)
        self.positions = (places - starts.repeat_interleave(lengths)).view(rows, length).to(device, non_blocking=True)
        by_length = lengths.argsort(stable=True)
        sizes, counts = torch.unique_consecutive(lengths[by_length], return_counts=True)
        self._groups: list[tuple[int, int]] = list(zip(counts.tolist(), sizes.tolist(), strict=True))
        sorted_lengths = lengths[by_length]
        offsets = places - (sorted_lengths.cumsum(0) - sorted_lengths).repeat_interleave(sorted_lengths)
        order = starts[by_length].repeat_interleave(sorted_lengths) + offsets
        self._numbers = begins.flatten().cumsum(0).view(rows, length)
        self._order = order.to(device, non_blocking=True)
        self._back = order.argsort().to(device, non_blocking=True)

    @property
    def together(self) -> Tensor:
        """Which positions are of one stretch, [B, T, T], for those who look on: the model itself holds no such mask."""
        numbers = self._numbers.to(self.positions.device)
        return numbers[:, :, None] == numbers[:, None, :]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mix values within each stretch.

        Args:
            query: [B, H, T, C], rotated by `positions`.
            key: [B, K, T, C], rotated likewise.
            value: [B, K, T, C].

        Returns:
            [B, H, T, C].
        """
        batch, heads, length, width = query.shape
        sorted_parts = [x.transpose(1, 2).flatten(0, 1)[self._order] for x in (query, key, value)]
        mixed, start = [], 0
        for count, size in self._groups:
            rows = slice(start, start + count * size)
            start = rows.stop
            q, k, v = (x[rows].view(count, size, -1, width).transpose(1, 2) for x in sorted_parts)
            group = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=q.shape[1] != k.shape[1])
            mixed.append(group.transpose(1, 2).flatten(0, 1))
        together = torch.cat(mixed)[self._back]
        return together.view(batch, length, heads, width).transpose(1, 2)
