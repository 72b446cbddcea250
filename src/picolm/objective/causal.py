"""Next-token prediction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from picolm.model.interface import LanguageModel
from picolm.objective.cross_entropy import linear_cross_entropies, linear_cross_entropy
from picolm.seams import IGNORE, Formulation, Sequences, Term, View

NAME = "causal"


class CausalFormulation(Formulation):
    """Each token is predicted from those before it in its row: the mean of -log p(x_t | x_<t), in nats per token."""

    scores_every_token = True

    def __init__(self, *, document_borders: bool = False) -> None:
        """Prepare.

        Args:
            document_borders: whether attention and positions stop where a document ends. A document's first token is
                then predicted from nothing but the separator before it, where that separator is in the row.
        """
        self.document_borders = document_borders

    def views(self, sequences: Sequences, *, measure: bool) -> tuple[View, ...]:
        """One view: inputs are a row's first T tokens, targets its last T; padding (at the end) is not scored."""
        tokens = torch.from_numpy(sequences.tokens)
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        n_scored = np.maximum(sequences.valid - 1, 0)
        padding = torch.arange(targets.shape[1])[None] >= torch.from_numpy(n_scored)[:, None]
        view = View(
            name=NAME,
            # Padding stands behind every real token, so causality hides it and no mask is needed.
            tensors={"input_ids": inputs.contiguous(), "targets": targets.masked_fill(padding, IGNORE)},
            units=n_scored,
            token_fields=frozenset({"input_ids", "targets"}),
        )
        return (view.with_documents(sequences.segments) if self.document_borders else view,)

    def terms(self) -> dict[str, Term]:
        """One term, `causal`."""
        return {NAME: Term(view=NAME, function=_next_token_loss, token_losses=_next_token_losses)}


def _next_token_loss(model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    return linear_cross_entropy(hidden, model.output_matrix, tensors["targets"])


def _next_token_losses(model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """At each position, the loss of the token that follows it [R, T]."""
    return linear_cross_entropies(hidden, model.output_matrix, tensors["targets"])
