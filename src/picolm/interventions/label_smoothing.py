"""Label smoothing: a part of the target's probability is spread evenly over the vocabulary (Szegedy et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field
from torch import Tensor

from picolm.config import schema
from picolm.model.interface import LanguageModel
from picolm.objective.smoothing import margin_over_mean
from picolm.seams import Intervention, Objective, Run, TermFunction


class LabelSmoothing(Intervention):
    """Minimises (1 - alpha) CE(onehot) + alpha CE(uniform over the vocabulary) for each token term of the run.

    The targets are those of Szegedy et al. (2016), section 7, and of PyTorch's `label_smoothing`; they are never held.
    Validation goes on to measure the plain loss.
    """

    class Settings(schema.Section):
        """How much is spread."""

        alpha: float = Field(0.1, gt=0.0, lt=1.0, description="share of the probability that is spread")

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.said = False
        self.terms: list[str] = []

    def objective(self, objective: Objective, step: int, run: Run) -> Objective:
        """Put the smoothed loss in the place of every term that predicts tokens with the model's own output matrix."""
        alpha = self.settings.alpha
        terms = {
            name: replace(term, function=_smoothed(term.function, alpha))
            for name, term in objective.terms.items()
            if term.token_losses is not None and term.head is None
        }
        self.terms = sorted(terms)
        return objective.with_terms(terms)

    def before_step(self, run: Run) -> None:
        """Say once, in the log, what is smoothed."""
        if not self.said:
            run.record("smoothing", alpha=self.settings.alpha, terms=self.terms)
            self.said = True

    def state_dict(self) -> dict[str, Any]:
        """Whether it was said."""
        return {"said": self.said}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take that up."""
        self.said = bool(state["said"])


def _smoothed(plain: TermFunction, alpha: float) -> TermFunction:
    def function(model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        return plain(model, hidden, tensors) + alpha * margin_over_mean(model, hidden, tensors)

    return function
