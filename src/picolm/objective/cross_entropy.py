"""Cross-entropy of an output matrix: from hidden states to a sum of losses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from picolm.seams import IGNORE


def linear_cross_entropy(hidden: Tensor, output_matrix: Tensor, targets: Tensor) -> Tensor:
    """Sum of -log softmax(hidden W^T)[target] over the positions whose target is not `IGNORE`, in nats.

    The softmax and the sum are computed in float32 at least, whatever the matrix product ran in.

    Args:
        hidden: [..., D].
        output_matrix: W [V, D].
        targets: token ids [...], or `IGNORE`.
    """
    logits = F.linear(hidden, output_matrix).flatten(0, -2)
    precise = logits.float() if logits.dtype.itemsize < 4 else logits
    return F.cross_entropy(precise, targets.flatten(), ignore_index=IGNORE, reduction="sum")
