"""Gaussian noise on the gradients within a window of steps (Neelakantan et al. 2015)."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator

from picolm.config import schema
from picolm.config.section import Count, PositiveReal, Strings
from picolm.interventions.patterns import matching
from picolm.seams import Intervention, Run


class GradientNoise(Intervention):
    """Adds N(0, sigma_t^2) to every element of the gradient before it is clipped, sigma_t^2 = eta / (1 + t)^gamma.

    t counts steps from the beginning of the window (Neelakantan et al. 2015, equation 1). Every draw is keyed by
    (seed, name of the intervention, step, parameter), so it is the same on all ranks and after a resume.
    """

    class Settings(schema.Section):
        """How much noise, when, and on what."""

        eta: PositiveReal = Field(0.01, description="variance at the first step of the window")
        gamma: float = Field(0.55, ge=0.0, description="how fast it falls; 0: it stays")
        start: Count = Field(0, description="first step with noise")
        stop: Count | None = Field(None, description="first step without; null: to the end")
        parameters: Strings = Field(("*",), description="patterns of names: a module's path, or with `*`")

        @model_validator(mode="after")
        def _window_is_one(self) -> GradientNoise.Settings:
            if self.stop is not None and self.stop <= self.start:
                raise ValueError(f"stop {self.stop} is not above start {self.start}: there would be no step with noise")
            return self

    settings: Settings

    def gradients(self, run: Run) -> None:
        """Add the noise of this step."""
        settings, step = self.settings, run.step
        if step < settings.start or (settings.stop is not None and step >= settings.stop):
            return
        sigma = (settings.eta / (1 + step - settings.start) ** settings.gamma) ** 0.5
        names = matching(settings.parameters, run.parameters, "gradient_noise.parameters")
        squared = []
        for name in names:
            gradient = run.parameters[name].grad
            if gradient is not None:
                noise = torch.empty(gradient.shape).normal_(0.0, sigma, generator=run.torch_rng("noise", step, name))
                gradient += noise.to(gradient.device, gradient.dtype)
                squared.append(noise.square().sum())
        run.record("noise", sigma=sigma, norm=torch.stack(squared).sum().sqrt() if squared else 0.0)
