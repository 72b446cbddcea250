"""Episodes with an inner loop that adapts a head and a layer of the model, differentiated through (as in MAML)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from picolm.config import schema
from picolm.config.section import Positive, PositiveReal, Strings
from picolm.interventions.patterns import matching
from picolm.model.interface import LanguageModel
from picolm.objective.twin import plain_twin
from picolm.seams import Intervention, Objective, Run, Sequences, Term, View

VIEW = "episodes"
Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Adaptation:
    """How an episode is learned."""

    inner_steps: int
    inner_rate: float
    n_classes: int
    names: tuple[str, ...]
    """Parameters of the model that are adapted beside the head."""


def query_losses(model: LanguageModel, head: Tensor, tensors: Mapping[str, Tensor], adaptation: Adaptation) -> Tensor:
    """Sum over all query rows of the loss after adaptation to the support rows of their episode, differentiable."""
    parameters = dict(model.named_parameters())
    sums = []
    for episode in tensors["episode"].unique():
        mine = tensors["episode"] == episode
        support, query = (mine & (tensors["is_query"] == flag) for flag in (False, True))
        fast: Parameters = {name: parameters[name] for name in adaptation.names if parameters[name].requires_grad}
        fast_head = head

        def loss(rows: Tensor, fast: Parameters, fast_head: Tensor) -> Tensor:
            hidden = functional_call(model, fast, (tensors["input_ids"][rows],))
            return F.cross_entropy(hidden[:, -1] @ fast_head.mT, tensors["label"][rows], reduction="sum")

        for _ in range(adaptation.inner_steps):
            wanted = [*fast.values(), fast_head]
            mean = loss(support, fast, fast_head) / support.sum()
            *slopes, slope = torch.autograd.grad(mean, wanted, create_graph=True)
            fast = {name: p - adaptation.inner_rate * g for (name, p), g in zip(fast.items(), slopes, strict=True)}
            fast_head = fast_head - adaptation.inner_rate * slope
        sums.append(loss(query, fast, fast_head))
    return torch.stack(sums).sum()


class Episodes(nn.Module):
    """The head's initial weights, and the term."""

    def __init__(self, width: int, adaptation: Adaptation, generator: torch.Generator) -> None:
        super().__init__()
        self.adaptation = adaptation
        self.weight = nn.Parameter(torch.empty(adaptation.n_classes, width).normal_(0.0, 0.1, generator=generator))

    def forward(self, model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """The value, with gradients that are computed here, whoever asks for them, and handed on."""
        trained = [p for p in (*model.parameters(), self.weight) if p.requires_grad]
        with torch.enable_grad(), plain_twin():
            value = query_losses(model, self.weight, tensors, self.adaptation)
            slopes = torch.autograd.grad(value, trained, allow_unused=True)
        pairs = [(p, g.detach()) for p, g in zip(trained, slopes, strict=True) if g is not None]
        handle = torch.stack([(p * g).sum() for p, g in pairs]).sum()
        return value.detach() + handle - handle.detach()


class InnerLoop(Intervention):
    """Adds a term on episodes that are made of the step's own rows; the language model's term stays beside it."""

    class Settings(schema.Section):
        """Episodes and adaptation."""

        support: Positive = Field(2, description="rows of an episode that are learned from")
        query: Positive = Field(2, description="rows of an episode that are asked about")
        classes: Positive = Field(3, description="a row's class is its last token modulo this")
        inner_steps: Positive = Field(2, description="updates in an episode")
        inner_rate: PositiveReal = Field(0.1, description="learning rate in an episode")
        adapted: Strings = Field(("layers.1.attention.v_proj",), description="what is adapted beside the head")
        weight: PositiveReal = Field(0.5, description="of the term")

    settings: Settings

    def views(self, views: tuple[View, ...], sequences: Sequences, run: Run, *, measure: bool) -> tuple[View, ...]:
        if measure:
            return views
        size = self.settings.support + self.settings.query
        n_rows = len(sequences.ids) // size * size
        places = np.arange(n_rows)
        tokens = torch.from_numpy(sequences.tokens[:n_rows])
        is_query = places % size >= self.settings.support
        view = View(
            name=VIEW,
            tensors={
                "input_ids": tokens[:, :-1].contiguous(),
                "label": tokens[:, -1] % self.settings.classes,
                "is_query": torch.from_numpy(is_query),
                "episode": torch.from_numpy(places // size),
            },
            units=is_query.astype(np.int64),
            groups=places // size,
        )
        return (*views, view)

    def objective(self, objective: Objective, step: int, run: Run) -> Objective:
        settings, model = self.settings, objective.model
        names = matching(settings.adapted, dict(model.named_parameters()), "inner_loop.adapted")
        adaptation = Adaptation(settings.inner_steps, settings.inner_rate, settings.classes, tuple(names))
        head = Episodes(model.config.d_model, adaptation, run.torch_rng("head"))
        return objective.with_terms({VIEW: Term(VIEW, head, settings.weight)})

    def after_step(self, run: Run) -> None:
        run.record("episodes", head_norm=run.parameters[f"heads.{VIEW}.weight"].norm())
