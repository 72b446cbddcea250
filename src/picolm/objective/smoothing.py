"""Smoothed targets without dense targets."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from picolm.model.interface import LanguageModel
from picolm.seams import IGNORE


def margin_over_mean(model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Sum over scored tokens of z_t - mean_v z_v, the target's logit above the mean of all logits; a scalar.

    With it the cross-entropy against smoothed targets (1 - alpha) onehot + alpha / V is CE(onehot) + alpha times this:
    the normalizer is the same, and sum_v q_v z_v = (1 - alpha) z_t + alpha mean_v z_v (Szegedy et al. 2016, section 7).
    Neither the targets nor the logits are held: mean_v z_v = h . mean_v W_v.

    Args:
        model: whose output matrix W [V, D] is read.
        hidden: [R, T, D].
        tensors: of the view: `targets` [R, T], or [R, P] with `positions` [R, P].
    """
    targets = tensors["targets"]
    if "positions" in tensors:
        hidden = hidden.gather(1, tensors["positions"][..., None].expand(-1, -1, hidden.shape[-1]))
    matrix = model.output_matrix
    scored = targets != IGNORE
    rows = matrix[targets.where(scored, 0)] - matrix.mean(dim=0)
    margins = (hidden.to(matrix.dtype) * rows).sum(dim=-1)
    return margins.where(scored, 0.0).sum()
