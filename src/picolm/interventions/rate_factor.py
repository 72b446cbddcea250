"""A learning rate of their own for some parameters: a multiple of that of the others, at every step."""

from __future__ import annotations

from pydantic import Field

from picolm.config import schema
from picolm.config.section import PositiveReal, Strings
from picolm.interventions.group_rates import multiplied
from picolm.interventions.patterns import matching
from picolm.seams import Group, Intervention


class RateFactor(Intervention):
    """Trains the parameters that `parameters` mean at `factor` times the learning rate.

    With AdamW the size of a step does not depend on that of the gradient, so one rate for all moves matrices that begin
    small much further, for their size, than large ones. Decay goes with the rate and is multiplied too.
    """

    class Settings(schema.Section):
        """Which parameters, and by how much."""

        parameters: Strings = Field(("layers",), description="patterns of names: a module's path, or with `*`")
        factor: PositiveReal = Field(description="what the learning rate is multiplied by")

    settings: Settings

    def groups(self, groups: list[Group]) -> list[Group]:
        """Give them groups of their own, whose peak is multiplied."""
        names = [name for group in groups for name in group["names"]]
        meant = set(matching(self.settings.parameters, names, "rate_factor.parameters"))
        return multiplied(groups, lambda name: self.settings.factor if name in meant else 1.0)
