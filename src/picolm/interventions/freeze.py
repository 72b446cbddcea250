"""Freeze parts of the model until some step: they keep their first values, and everything else learns around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from picolm.config import schema
from picolm.config.section import Positive, Strings
from picolm.interventions.patterns import matching
from picolm.model.interface import LanguageModel
from picolm.seams import Intervention, Run


class Freeze(Intervention):
    """Takes parameters out of training before step `until`; from then on they are trained like the others.

    A frozen parameter has no gradient and no optimizer state, and does not decay; its moments begin at `until`.
    """

    class Settings(schema.Section):
        """What is frozen, and how long."""

        parameters: Strings = Field(("layers.0",), description="patterns of names: a module's path, or with `*`")
        until: Positive = Field(description="the first step at which they are trained; none below it trains them")

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.said = ""

    def stages(self) -> Sequence[int]:
        """One: where the parameters thaw."""
        return (self.settings.until,)

    def model(self, model: LanguageModel, step: int, run: Run) -> LanguageModel:
        """Take the parameters out of training, before `until`."""
        names = matching(self.settings.parameters, dict(model.named_parameters()), "freeze.parameters")
        if step < self.settings.until:
            for name in names:
                model.get_parameter(name).requires_grad_(False)
        return model

    def before_step(self, run: Run) -> None:
        """Say in the log what is frozen, once, and when it thaws."""
        event = "thawed" if run.step >= self.settings.until else "frozen"
        if event != self.said:
            names = matching(self.settings.parameters, dict(run.model.named_parameters()), "freeze.parameters")
            run.record(event, parameters=len(names), until=self.settings.until)
            self.said = event

    def state_dict(self) -> dict[str, Any]:
        """What was said last."""
        return {"said": self.said}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take that up."""
        self.said = str(state["said"])
