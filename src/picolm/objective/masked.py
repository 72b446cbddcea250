"""Masked-token prediction."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
import torch
from torch import Tensor

from picolm.config import schema
from picolm.model.interface import LanguageModel
from picolm.objective.corruption import Corruption, gathered
from picolm.objective.cross_entropy import linear_cross_entropies, linear_cross_entropy
from picolm.randomness import generator
from picolm.seams import IGNORE, Formulation, Sequences, Term, View

NAME = "masked"


class MaskedFormulation(Formulation):
    """Some tokens are corrupted and predicted from the whole row (Devlin et al. 2019, BERT, section 3.1).

    Each ordinary token is chosen with probability `rate`; a chosen one becomes the mask token, a random ordinary token,
    or stays. Every row's draws are keyed by (seed, step, row), so no batch size or worker changes them.
    """

    scores_every_token = False

    def __init__(
        self,
        rates: schema.Masked,
        *,
        mask_id: int,
        special_ids: Set[int],
        vocab_size: int,
        seed: int,
        document_borders: bool = False,
    ) -> None:
        """Prepare to corrupt.

        Args:
            rates: how much is corrupted, and how.
            mask_id: the mask token.
            special_ids: tokens that are neither corrupted nor drawn as random ones.
            vocab_size: entries of the tokenizer.
            seed: the data seed.
            document_borders: whether attention and positions stop where a document ends.
        """
        self.rates, self.seed, self.document_borders = rates, seed, document_borders
        self.corruption = Corruption(mask_id=mask_id, special_ids=special_ids, vocab_size=vocab_size)

    def views(self, sequences: Sequences, *, measure: bool) -> tuple[View, ...]:
        """One view: corrupted inputs [R, T], and for each row the chosen positions and their tokens [R, P].

        P is the largest number of chosen positions in a row; shorter rows point at position 0 with the target `IGNORE`.
        The positions are known on the host, so hidden states can be picked without waiting for the device.
        """
        original = sequences.tokens[:, :-1]
        real = np.arange(original.shape[1])[None] < sequences.valid[:, None]
        inputs = original.copy()
        chosen = np.zeros(original.shape, dtype=bool)
        for row, number in enumerate(sequences.ids):
            draw, rates = self._stream(sequences, int(number), measure), self.rates
            chosen[row] = self.corruption.chosen(original[row], real[row], rates.rate, draw)
            inputs[row] = self.corruption.corrupted(
                original[row],
                chosen[row],
                draw,
                mask_fraction=rates.mask_fraction,
                random_fraction=rates.random_fraction,
            )
        positions, targets = gathered(chosen, original)
        tensors = {
            "input_ids": torch.from_numpy(inputs),
            "positions": torch.from_numpy(positions),
            "targets": torch.from_numpy(targets),
        }
        if not real.all():
            tensors["attention_mask"] = torch.from_numpy(real)
        view = View(
            name=NAME,
            tensors=tensors,
            units=chosen.sum(axis=1, dtype=np.int64),
            inputs=("input_ids", "attention_mask") if "attention_mask" in tensors else ("input_ids",),
            token_fields=frozenset({"input_ids", "targets"}),
        )
        return (view.with_documents(sequences.segments) if self.document_borders else view,)

    def terms(self) -> dict[str, Term]:
        """One term, `masked`."""
        return masked_terms()

    def _stream(self, sequences: Sequences, number: int, measure: bool) -> np.random.Generator:
        if measure:
            return generator(0, "masking", "measure", sequences.stream, number)
        return generator(self.seed, "masking", sequences.stream, sequences.step, number)


def masked_terms() -> dict[str, Term]:
    """The loss of the tokens at the positions that a view of this name has chosen."""
    return {NAME: Term(view=NAME, function=_masked_token_loss, token_losses=_masked_token_losses)}


def _masked_token_loss(model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    return linear_cross_entropy(_chosen(hidden, tensors), model.output_matrix, tensors["targets"])


def _masked_token_losses(model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """At each chosen position, the loss of the token that stood there [R, T]."""
    losses = linear_cross_entropies(_chosen(hidden, tensors), model.output_matrix, tensors["targets"])
    positions, length = tensors["positions"], hidden.shape[1]
    # What fills up short rows goes to a place behind the row, which is cut off: position 0 may itself be chosen.
    places = positions.where(tensors["targets"] != IGNORE, length)
    return losses.new_full((len(losses), length + 1), torch.nan).scatter(1, places, losses)[:, :length]


def _chosen(hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Hidden states at the chosen positions [R, P, D]."""
    return hidden.gather(1, tensors["positions"][..., None].expand(-1, -1, hidden.shape[-1]))
