"""A term that reaches its head for some rows only: of several ranks, some have no gradient of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from picolm.model.interface import LanguageModel
from picolm.seams import Intervention, Objective, Run, Sequences, Term, View

NAME = "lopsided"


class LopsidedHead(nn.Module):
    """Scores the first row of a batch by one vector and the last by another; those between by none."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = (nn.Parameter(torch.full((width,), value)) for value in (0.1, -0.1))

    def forward(self, model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        places, total = tensors["place"].tolist(), hidden.sum() * 0.0
        for vector, place in ((self.first, 0), (self.last, -1)):
            if place in places:
                total = total + (hidden[places.index(place)] @ vector).square().sum()
        return total


class Lopsided(Intervention):
    """Adds the term to the view of the language model."""

    def views(self, views: tuple[View, ...], sequences: Sequences, run: Run, *, measure: bool) -> tuple[View, ...]:
        view, *others = views
        place = torch.arange(view.n_rows)
        place[-1] = -1
        return (replace(view, tensors={**view.tensors, "place": place}), *others)

    def objective(self, objective: Objective, step: int, run: Run) -> Objective:
        (term,) = objective.terms.values()
        head = LopsidedHead(objective.model.config.d_model)
        return objective.with_terms({NAME: Term(term.view, head, 0.01)})
