"""What the model is shown: the views of the formulation, as the interventions of the run change them."""

from __future__ import annotations

from collections.abc import Sequence

from picolm.seams import Formulation, Sequences, Term, View
from picolm.training.structure import Active


class Shown(Formulation):
    """A formulation whose views pass through every intervention: for training, validation and probes alike."""

    def __init__(self, formulation: Formulation, active: Sequence[Active]) -> None:
        self.formulation, self.active = formulation, active
        self.scores_every_token = formulation.scores_every_token

    def views(self, sequences: Sequences, *, measure: bool) -> tuple[View, ...]:
        """The views of some rows."""
        views = self.formulation.views(sequences, measure=measure)
        for item in self.active:
            views = item.intervention.views(views, sequences, item.run, measure=measure)
        return views

    def terms(self) -> dict[str, Term]:
        """The terms of the formulation: what is measured, whatever is minimised."""
        return self.formulation.terms()
