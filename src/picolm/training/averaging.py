"""An exponential moving average of the weights, beside training and without effect on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from picolm.config import schema

UPDATES = "updates"
"""Beside the names of parameters: how many updates the average has taken in."""


class WeightAverage:
    """Averages the trainable parameters of a module, kept by name on their device.

    With t the number of averaged updates, w the weights and d_t = min(decay, (1 + t) / (10 + t)):

        average <- d_t average + (1 - d_t) w

    (Polyak & Juditsky 1992 for averaging; the ramp is that of TensorFlow's `ExponentialMovingAverage(num_updates)`.)
    It makes the initial weights count for little at once, with no division when the average is read.
    """

    def __init__(self, module: nn.Module, settings: schema.Average) -> None:
        """Prepare to average.

        Args:
            module: what is trained, on its device.
            settings: decay and start.
        """
        self.settings = settings
        self.weights: dict[str, Tensor] = {}
        """The average by name; empty before it begins."""
        self.follow(module)
        self._updates = torch.zeros((), device=next(iter(self._parameters.values())).device)
        if settings.start == 0:
            self._begin()

    def follow(self, module: nn.Module) -> None:
        """Average the parameters of this module from now on, by name; a new one begins with the value that it has."""
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if self.weights:
            self.weights = {name: self.weights.get(name, p.detach().clone()) for name, p in self._parameters.items()}

    @property
    def began(self) -> bool:
        """Whether there is an average."""
        return bool(self.weights)

    @torch.no_grad()
    def update(self, done: int, *, skip: Tensor) -> None:
        """Take in the weights after update number `done` (from 1).

        `skip`, a scalar on the device, is 1 where that update was skipped: then the average stays as it is. The host
        does not wait to learn so.
        """
        if done == self.settings.start:
            self._begin()
        if done <= self.settings.start:
            return
        keep = torch.clamp((1.0 + self._updates) / (10.0 + self._updates), max=self.settings.decay)
        self._updates += 1.0 - skip
        for name, parameter in self._parameters.items():
            average = self.weights[name]
            mixed = average.lerp(parameter, (1.0 - keep).to(average.dtype))
            average.copy_(torch.where(skip.bool(), average, mixed))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the module have the averaged weights, and afterwards its own again; nothing is copied."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def tensors(self) -> dict[str, Tensor]:
        """What a resumed run needs: the average by name, and `updates`; empty before it begins."""
        return {**self.weights, UPDATES: self._updates} if self.began else {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up again what `tensors` gave."""
        if tensors:
            # Where structure changes at this very step, a parameter may be new, or gone.
            self.weights = {
                name: tensors.get(name, p.detach()).to(p.device, copy=True) for name, p in self._parameters.items()
            }
            self._updates = tensors[UPDATES].to(self._updates.device, copy=True)

    def _begin(self) -> None:
        self.weights = {name: p.detach().clone() for name, p in self._parameters.items()}

    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            own = parameter.data
            parameter.data = self.weights[name]
            self.weights[name] = own
