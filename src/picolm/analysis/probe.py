"""Probes: rows of tokens that a model is shown, and the rows of an activation that stand for real tokens.

Shapes: R rows, T positions, H heads, d width, n real tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Positions = Literal["all"] | Sequence[int]
"""Those of a row that were kept; negative ones count from the end of its text."""

NO_TARGET = -100
"""What `targets` hold where nothing is predicted."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Rows of tokens; every position that is not masked counts."""

    input_ids: Tensor
    """int64 [R, T]."""
    targets: Tensor | None = None
    """int64 [R, T]: what each position is to predict, `NO_TARGET` for nothing; None: no loss, hence no gradients."""
    mask: Tensor | None = None
    """bool [R, T]: True at real tokens, False at padding; None: no padding."""
    documents: Tensor | None = None
    """int64 [R, T]: attention and positions begin anew where the number changes; None: rows are read whole."""

    @classmethod
    def causal(cls, tokens: Tensor, valid: Tensor | None = None) -> Probe:
        """A probe whose positions predict the next token.

        Args:
            tokens: int64 [R, T + 1]; the last one of each row is predicted only.
            valid: int64 [R], how many tokens of each row are no padding; None: all.
        """
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        if valid is None:
            return cls(inputs, targets)
        at = torch.arange(inputs.shape[1])
        return cls(inputs, targets.masked_fill(at + 1 >= valid[:, None], NO_TARGET), at < valid[:, None])

    @property
    def real(self) -> Tensor:
        """True at real tokens, bool [R, T]."""
        return torch.ones_like(self.input_ids, dtype=torch.bool) if self.mask is None else self.mask

    def rows(self, which: slice) -> Probe:
        """Some of its rows."""

        def some(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[which]

        return Probe(self.input_ids[which], some(self.targets), some(self.mask), some(self.documents))

    @property
    def digest(self) -> str:
        """SHA-256 of the rows: the same where a model is shown the same."""
        hashed = hashlib.sha256()
        for tensor in (self.input_ids, self.targets, self.mask, self.documents):
            hashed.update(repr(None if tensor is None else tuple(tensor.shape)).encode())
            if tensor is not None:
                hashed.update(tensor.to(torch.int64).contiguous().numpy().tobytes())
        return hashed.hexdigest()


def token_rows(activation: Tensor, real: Tensor) -> Tensor:
    """Turn an activation into rows of tokens, as metrics take them.

    Args:
        activation: [R, T, d], or [R, H, T, d] where it is seen head by head.
        real: bool [R, T], whose tokens are taken.

    Returns:
        [n, d], or [H, n, d]: row by row, the tokens of each in order.
    """
    if activation.dim() == 3:
        return activation[real]
    return activation.transpose(0, 1)[:, real]


def text_positions(lengths: Tensor, length: int, positions: Positions) -> Tensor:
    """Which of the kept positions of rows are text.

    Args:
        lengths: int64 [R], how many positions of each row are text.
        length: T, of all rows.
        positions: the P that were kept.

    Returns:
        bool [R, P].
    """
    at = torch.arange(length) if positions == "all" else torch.tensor(positions, dtype=torch.int64)
    where = torch.where(at >= 0, at, lengths[:, None] + at)
    return (where >= 0) & (where < lengths[:, None])
