"""The terms of word classes: what is predicted beside the tokens, and how it becomes a part of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picolm.model.class_head import ClassHead
from picolm.model.interface import LanguageModel
from picolm.seams import IGNORE, Term

LISTED, INSIDE, OUTSIDE = "listed", "inside_weight", "outside_weight"
"""Tensors of a view: whether the class of each target is listed; the weight of those that are, of the others [R]."""

Weights = dict[str, Tensor]


def classes_key(unit: str) -> str:
    """The tensor of a view that holds the classes of a unit: [R, P] with `positions`, else [R, T]; or `IGNORE`."""
    return f"{unit}_classes"


def scale_key(unit: str) -> str:
    """The tensor [R] that turns a mean over the view's units into one over the unit's own places."""
    return f"{unit}_scale"


class ClassTerm(nn.Module):
    """Cross-entropy of a head's classes; nothing, and no gradient, where a view does not hold the unit's classes.

    Args:
        unit: whose classes they are.
        head: hidden states [..., D] -> scores [..., K].
    """

    def __init__(self, unit: str, head: ClassHead) -> None:
        super().__init__()
        self.unit, self.head = unit, head

    def forward(self, model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """The sum over the unit's places, scaled to the view's units."""
        if classes_key(self.unit) not in tensors:
            return _nothing(hidden)
        scores, classes = self._scores(hidden, tensors), tensors[classes_key(self.unit)]
        total = F.cross_entropy(scores.flatten(0, -2), classes.flatten(), ignore_index=IGNORE, reduction="sum")
        scale = tensors.get(scale_key(self.unit))
        return total if scale is None else total * scale[0]

    def token_losses(self, model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """At each place, the loss of its class [R, T]; NaN where there is none."""
        length = hidden.shape[1]
        if classes_key(self.unit) not in tensors:
            return hidden.new_full(hidden.shape[:2], torch.nan)
        classes = tensors[classes_key(self.unit)]
        losses = F.cross_entropy(
            self._scores(hidden, tensors).mT, classes, ignore_index=IGNORE, reduction="none"
        ).masked_fill(classes == IGNORE, torch.nan)
        if "positions" not in tensors:
            return losses
        # What fills up short rows goes to a place behind the row, which is cut off.
        places = tensors["positions"].where(classes != IGNORE, length)
        return losses.new_full((len(losses), length + 1), torch.nan).scatter(1, places, losses)[:, :length]

    def _scores(self, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        if "positions" in tensors:
            hidden = hidden.gather(1, tensors["positions"][..., None].expand(-1, -1, hidden.shape[-1]))
        scores: Tensor = self.head(hidden)
        return scores.float() if scores.dtype.itemsize < 4 else scores


def resting(term: Term) -> Term:
    """The same term, which gives nothing and no gradient where a view has lost its targets."""
    plain, plain_losses = term.function, term.token_losses

    def function(model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        return plain(model, hidden, tensors) if "targets" in tensors else _nothing(hidden)

    def token_losses(model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        assert plain_losses is not None, "tokens have a loss each"
        rests = "targets" not in tensors
        return hidden.new_full(hidden.shape[:2], torch.nan) if rests else plain_losses(model, hidden, tensors)

    return Term(term.view, function, term.weight, token_losses=token_losses, head=term.head)


def weighted(term: Term) -> Term:
    """The same term of tokens, in which those of listed classes weigh more, by what the view says.

    Two sums without weights, each over its own targets, so that no loss of single tokens and no logits are held. What
    is looked on is the plain loss of each token.
    """
    plain = term.function

    def function(model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        if LISTED not in tensors:
            return plain(model, hidden, tensors)
        listed, targets = tensors[LISTED], tensors["targets"]
        parts = [(listed, INSIDE), (~listed, OUTSIDE)]
        sums = [
            tensors[weight][0] * plain(model, hidden, {**tensors, "targets": targets.where(part, IGNORE)})
            for part, weight in parts
        ]
        return torch.stack(sums).sum()

    return replace(term, function=function)


def weights_of(listed: npt.NDArray[np.bool_], scored: npt.NDArray[np.bool_], inside: float, outside: float) -> Weights:
    """The tensors of a view by which `weighted` weighs: in the given ratio, and 1 on average over what is scored.

    Args:
        listed: whether the class of each target is listed [R, ...].
        scored: whether it is a target at all.
        inside: weight of the listed.
        outside: weight of the others.
    """
    n_listed, n_scored = int((listed & scored).sum()), int(scored.sum())
    mean = (inside * n_listed + outside * (n_scored - n_listed)) / max(n_scored, 1)
    # Where everything that is scored has no weight there is nothing to divide by.
    scale = 1.0 / mean if mean > 0 else 0.0
    rows = len(listed)
    return {
        LISTED: torch.from_numpy(listed),
        INSIDE: torch.full((rows,), inside * scale),
        OUTSIDE: torch.full((rows,), outside * scale),
    }


def _nothing(hidden: Tensor) -> Tensor:
    """A sum over no places, in the precision of the others; it has no gradient."""
    return hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
