"""One name for each matrix, whatever the architecture: PicoLM's own, and which part of which stored tensor it is.

Every matrix is [out, in], as `torch.nn.Linear` has it: y = W x. Rows of `q_proj`, `k_proj` and `v_proj` and columns of
`o_proj` are ordered head by head; where queries and keys are rotated, pairs are (i, i + C/2) of what is rotated, as in
Llama. `NAME` means a module's weight, `NAME.bias` its bias.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Rows(ABC):
    """Some entries of the output dimension, in some order."""

    @abstractmethod
    def take(self, tensor: Tensor) -> Tensor:
        """Take them from dimension 0."""


@dataclass(frozen=True, slots=True)
class Third(Rows):
    """Queries, keys or values of a fused matrix.

    GPT-NeoX packs [q | k | v] head by head (`blocks` is the number of heads), GPT-2 all of each (one block).
    """

    blocks: int
    which: int

    def take(self, tensor: Tensor) -> Tensor:
        """As `Rows.take`."""
        width = tensor.shape[0] // (3 * self.blocks)
        return tensor.reshape(self.blocks, 3, width, *tensor.shape[1:])[:, self.which].flatten(0, 1)


@dataclass(frozen=True, slots=True)
class HalfSplit(Rows):
    """Rotary pairs (2i, 2i + 1) of each head, as original Pico models have them, moved to (i, i + C/2)."""

    head_dim: int

    def take(self, tensor: Tensor) -> Tensor:
        """As `Rows.take`."""
        pairs = tensor.reshape(-1, self.head_dim // 2, 2, *tensor.shape[1:])
        return pairs.transpose(1, 2).flatten(0, 2)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a canonical tensor stands within a stored one."""

    stored: str
    rows: Rows | None = None
    """None: all as they stand."""
    transposed: bool = False
    """Whether the stored matrix is [in, out]."""

    def cut(self, tensor: Tensor) -> Tensor:
        """Take the canonical weight [out, in] or bias [out] from a stored tensor."""
        whole = tensor.mT if self.transposed else tensor
        return whole if self.rows is None else self.rows.take(whole)

    def cut_output(self, activation: Tensor) -> Tensor:
        """Take the canonical activation [..., out] from the output of the module that holds the stored tensor."""
        return activation if self.rows is None else self.rows.take(activation.movedim(-1, 0)).movedim(0, -1)

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """The canonical shape, from the stored one."""
        return tuple(self.cut(torch.empty(stored, device="meta")).shape)
