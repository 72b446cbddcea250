"""Cross-entropy of an output matrix: from hidden states to a sum of losses, without ever holding the logits."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from picolm.model.size import loss_rows
from picolm.seams import IGNORE

plain_losses: ContextVar[bool] = ContextVar("plain_losses", default=False)
"""Whether `linear_cross_entropy` takes its plain form everywhere (see `objective.twin`)."""


def linear_cross_entropy(hidden: Tensor, output_matrix: Tensor, targets: Tensor) -> Tensor:
    """Sum of -log softmax(hidden W^T)[target] over the positions whose target is not `IGNORE`, in nats.

    The softmax and the sums, those of the gradients too, are computed in float32 at least, whatever the matrix products
    run in. The logits are computed chunk by chunk and thrown away, and the gradient is computed with them (as in cut
    cross-entropy, Wijmans et al. 2025, and Liger, Hsu et al. 2024): memory does not grow with positions times
    vocabulary. Where the chunks would be one, and under `objective.twin`, it is `plain_linear_cross_entropy`.

    Args:
        hidden: [..., D].
        output_matrix: W [V, D].
        targets: token ids [...], or `IGNORE`.
    """
    vocab_size, width = output_matrix.shape
    rows = loss_rows(vocab_size, width, hidden.device.type)
    if plain_losses.get() or targets.numel() <= rows:
        return plain_linear_cross_entropy(hidden, output_matrix, targets)
    loss: Tensor = _Chunked.apply(hidden.flatten(0, -2), output_matrix, targets.flatten(), rows)  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def linear_cross_entropies(hidden: Tensor, output_matrix: Tensor, targets: Tensor) -> Tensor:
    """What `linear_cross_entropy` sums: the loss of each target, NaN where it is `IGNORE`; without gradient.

    Args:
        hidden: [..., D].
        output_matrix: W [V, D].
        targets: token ids [...], or `IGNORE`.

    Returns:
        Nats [...], in float32 at least; the logits are computed chunk by chunk.
    """
    flat_hidden, flat_targets = hidden.flatten(0, -2), targets.flatten()
    vocab_size, width = output_matrix.shape
    rows = loss_rows(vocab_size, width, hidden.device.type)
    chunks = zip(torch.split(flat_hidden, rows), torch.split(flat_targets, rows), strict=True)
    losses = torch.cat([_each(some, output_matrix, wanted) for some, wanted in chunks])
    return losses.masked_fill(flat_targets == IGNORE, torch.nan).view(targets.shape)


def _each(hidden: Tensor, output_matrix: Tensor, targets: Tensor) -> Tensor:
    logits = F.linear(hidden, output_matrix)
    precise = logits.float() if logits.dtype.itemsize < 4 else logits
    return F.cross_entropy(precise, targets, ignore_index=IGNORE, reduction="none")


def plain_linear_cross_entropy(hidden: Tensor, output_matrix: Tensor, targets: Tensor) -> Tensor:
    """The same value from whole logits: twice differentiable, and transformable by `torch.func`."""
    logits = F.linear(hidden, output_matrix).flatten(0, -2)
    precise = logits.float() if logits.dtype.itemsize < 4 else logits
    return F.cross_entropy(precise, targets.flatten(), ignore_index=IGNORE, reduction="sum")


class _Chunked(torch.autograd.Function):
    """Loss and gradient in one pass over the rows; backward only scales what forward has found."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, output_matrix: Tensor, targets: Tensor, rows: int) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        wants_gradient = any(ctx.needs_input_grad)
        with torch.autocast(device, enabled=False):
            work = _Work(hidden.to(dtype), output_matrix.to(dtype), targets, wants_gradient)
            for start in range(0, len(targets), rows):
                work.chunk(slice(start, start + rows))
        if wants_gradient:
            ctx.save_for_backward(work.hidden_gradient.to(hidden.dtype), work.matrix_gradient.to(output_matrix.dtype))
        return work.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_gradient, matrix_gradient = ctx.saved_tensors
        return hidden_gradient * scale, matrix_gradient * scale, None, None


class _Work:
    """The running sums: the loss, d loss / d hidden [N, D] and d loss / d W [V, D]."""

    def __init__(self, hidden: Tensor, matrix: Tensor, targets: Tensor, wants_gradient: bool) -> None:
        self.hidden, self.matrix, self.targets, self.wants_gradient = hidden, matrix, targets, wants_gradient
        self.precise = torch.promote_types(hidden.dtype, torch.float32)
        self.loss = torch.zeros((), dtype=self.precise, device=hidden.device)
        if wants_gradient:
            self.hidden_gradient = torch.empty_like(hidden)
            self.matrix_gradient = torch.zeros_like(matrix, dtype=self.precise)

    def chunk(self, rows: slice) -> None:
        """Add one chunk of rows. With p = softmax(h W^T): d loss / d logits = p - onehot(target)."""
        hidden, targets = self.hidden[rows], self.targets[rows]
        scored = targets != IGNORE
        index = targets.where(scored, 0)[:, None]
        logits = hidden @ self.matrix.T
        chosen = logits.gather(1, index).to(self.precise)
        normalizer = torch.logsumexp(logits.to(self.precise), dim=1, keepdim=True)
        self.loss += (normalizer - chosen).squeeze(1).where(scored, 0).sum()
        if not self.wants_gradient:
            return
        slope = torch.softmax(logits, dim=1)
        # p - 1 from the precise p: where p is near 1, its rounding in half precision would be all that is left.
        slope.scatter_(1, index, ((chosen - normalizer).exp() - 1).to(slope.dtype))
        # Rows that are not scored are struck out where that is cheap: of D columns, not of V.
        mask = scored[:, None].to(hidden.dtype)
        torch.mul(slope @ self.matrix, mask, out=self.hidden_gradient[rows])
        if self.precise == hidden.dtype:
            self.matrix_gradient.addmm_(slope.T, hidden * mask)
        else:
            self.matrix_gradient += slope.T @ (hidden * mask)
