"""A second masked view of the same rows with masks and a head of its own, which idles at odd steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from picolm.config import schema
from picolm.config.section import Fraction, Positive
from picolm.model.interface import LanguageModel
from picolm.seams import IGNORE, Intervention, Objective, Run, Sequences, Term, View

NAME = "classes"


class ClassHead(nn.Module):
    """Predicts a token's class, id mod n, at masked positions."""

    def __init__(self, width: int, n_classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_classes, width).normal_(0.0, 0.02, generator=generator))

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.weight.mT

    def forward(self, model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        logits = self.logits(hidden).flatten(0, 1)
        return F.cross_entropy(logits, tensors["classes"].flatten(), ignore_index=IGNORE, reduction="sum")

    def token_losses(self, model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        losses = F.cross_entropy(self.logits(hidden).mT, tensors["classes"], ignore_index=IGNORE, reduction="none")
        return losses.masked_fill(tensors["classes"] == IGNORE, torch.nan)


class TwoViews(Intervention):
    """Every `every` steps adds the view and its term."""

    class Settings(schema.Section):
        """How much is masked, what is predicted, when."""

        rate: Fraction = Field(0.4, description="share of tokens that are masked in the second view")
        classes: Positive = Field(5, description="a token's class is its id modulo this")
        every: Positive = Field(2, description="steps between two that have the view")
        weight: float = Field(0.7, description="of the term")

    settings: Settings

    def views(self, views: tuple[View, ...], sequences: Sequences, run: Run, *, measure: bool) -> tuple[View, ...]:
        if not measure and sequences.step % self.settings.every:
            return views
        tokens, mask_id = sequences.tokens[:, :-1], run.tokenizer.mask_id
        assert mask_id is not None
        step = "measure" if measure else sequences.step
        draws = [run.rng("masks", sequences.stream, step, int(row)).random(tokens.shape[1]) for row in sequences.ids]
        real = np.arange(tokens.shape[1])[None] < sequences.valid[:, None]
        chosen = (np.stack(draws) < self.settings.rate) & real
        view = View(
            name=NAME,
            tensors={
                "input_ids": torch.from_numpy(np.where(chosen, mask_id, tokens)),
                "classes": torch.from_numpy(np.where(chosen, tokens % self.settings.classes, IGNORE)),
            },
            units=chosen.sum(axis=1, dtype=np.int64),
        )
        return (*views, view)

    def objective(self, objective: Objective, step: int, run: Run) -> Objective:
        head = ClassHead(objective.model.config.d_model, self.settings.classes, run.torch_rng("head"))
        term = Term(NAME, head, self.settings.weight, token_losses=head.token_losses)
        run.record("head", classes=self.settings.classes)
        return objective.with_terms({NAME: term})
