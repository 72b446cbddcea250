"""Pacing: how much is open at a step, as a pure function of the step (Martinez et al. 2023, CLIMB)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from pydantic import Field, model_validator

from picolm.config.section import Fraction, Section

Kind = Literal["linear", "quad", "root", "exp", "log", "step", "constant"]

_STEEPNESS = 10.0
_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda u: u,
    "quad": lambda u: u * u,
    "root": math.sqrt,
    "exp": lambda u: math.expm1(_STEEPNESS * u) / math.expm1(_STEEPNESS),
    "log": lambda u: 1.0 + math.log(u + math.exp(-_STEEPNESS)) / _STEEPNESS,
    "step": lambda u: float(u >= 1.0),
}


class Pacing(Section):
    """From `begin` to `full` between two shares of the run, in one of seven shapes.

    With N steps, w = int((end - start) N) and u = (t - start N) / w, it is `begin` before start N, and then
    min(full, begin + (full - begin) f(u)):

    ========  =======================================
    linear    u
    quad      u^2
    root      sqrt(u)
    exp       (e^(10 u) - 1) / (e^10 - 1)
    log       1 + ln(u + e^-10) / 10; nearly a step: .59 after a hundredth of the window
    step      0 before u = 1, then 1
    constant  everything is open at every step
    ========  =======================================
    """

    kind: Kind = Field("linear", description="the shape of the way from `begin` to `full`")
    start: Fraction = Field(0.0625, description="share of the run before which it stays at `begin`")
    end: Fraction = Field(0.875, description="share of the run at which it reaches `full`")
    begin: Fraction = Field(0.1, description="what is open at first, as a share")
    full: Fraction = Field(1.0, description="what is open at last")

    @model_validator(mode="after")
    def _rises_within_the_run(self) -> Pacing:
        if self.kind != "constant" and self.end <= self.start:
            raise ValueError(f"end {self.end} is not above start {self.start}: nothing would have time to open")
        if self.full < self.begin:
            raise ValueError(f"full {self.full} is below begin {self.begin}: what was open would close")
        return self

    def at(self, step: int, total_steps: int) -> float:
        """What is open at a step, in [begin, full]; 1 where the kind is `constant`.

        Args:
            step: updates made before it.
            total_steps: N, of the whole run.
        """
        if self.kind == "constant":
            return 1.0
        since = step - self.start * total_steps
        if since < 0:
            return self.begin
        width = int((self.end - self.start) * total_steps)
        # A window that is shorter than a step is over at once.
        u = min(since / width, 1.0) if width else 1.0
        return min(self.full, self.begin + (self.full - self.begin) * _SHAPES[self.kind](u))
