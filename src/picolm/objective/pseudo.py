"""Pseudo-likelihood of rows: each token is predicted from all others, one at a time (Salazar et al. 2020)."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import torch

from picolm.objective.masked import NAME, masked_terms
from picolm.seams import IGNORE, Formulation, Sequences, Term, View


class PseudoLikelihood(Formulation):
    """Every token that is not special is masked by itself: as many forwards of a row as it has tokens.

    The mean loss of a row is the logarithm of its pseudo-perplexity. To measure with, not to train on: nothing is
    drawn.
    """

    scores_every_token = False

    def __init__(self, *, mask_id: int, special_ids: Set[int], document_borders: bool = False) -> None:
        """Prepare.

        Args:
            mask_id: the mask token.
            special_ids: tokens that are neither masked nor scored.
            document_borders: whether attention and positions stop where a document ends.
        """
        self.mask_id, self.document_borders = mask_id, document_borders
        self.special = np.array(sorted(special_ids), dtype=np.int64)

    def views(self, sequences: Sequences, *, measure: bool) -> tuple[View, ...]:
        """One view for each place of a row, in which that place is masked in all rows [R, T]."""
        tokens = sequences.tokens[:, :-1]
        real = np.arange(tokens.shape[1])[None] < sequences.valid[:, None]
        scored = real & ~np.isin(tokens, self.special)
        attention = {} if real.all() else {"attention_mask": torch.from_numpy(real)}
        views = []
        for place in range(tokens.shape[1]):
            inputs, here = tokens.copy(), scored[:, place]
            inputs[here, place] = self.mask_id
            targets = np.where(here, tokens[:, place], IGNORE)[:, None]
            view = View(
                name=NAME,
                tensors={
                    "input_ids": torch.from_numpy(inputs),
                    "positions": torch.full((len(tokens), 1), place),
                    "targets": torch.from_numpy(targets),
                    **attention,
                },
                units=here.astype(np.int64),
                inputs=("input_ids", *attention),
                token_fields=frozenset({"input_ids", "targets"}),
            )
            views.append(view.with_documents(sequences.segments) if self.document_borders else view)
        return tuple(views)

    def terms(self) -> dict[str, Term]:
        """One term, `masked`."""
        return masked_terms()
