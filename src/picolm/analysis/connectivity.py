"""Linear mode connectivity: whether the loss stays low on the straight line between two models.

A function of whole models and a batch, so no `Metric`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from picolm.errors import PicoLMError

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Line:
    """The loss along a line from one model to another.

    Attributes:
        places: [N], float64, from 0 (the first model) to 1 (the second).
        losses: [N], float64.
    """

    places: Tensor
    losses: Tensor

    @property
    def heights(self) -> Tensor:
        """How far the loss lies above the straight line between its two ends [N]; below 0 where it dips."""
        return self.losses - torch.lerp(self.losses[0], self.losses[-1], self.places)

    @property
    def barrier(self) -> float:
        """The greatest height, from 0 up, in the loss's unit; 0: the two are connected, as far as was looked."""
        return float(self.heights.amax())


@torch.no_grad()
def loss_along(
    loss: Callable[[dict[str, Tensor]], Tensor | float], first: Parameters, second: Parameters, *, points: int = 25
) -> Line:
    """Evaluate the loss at evenly spaced mixtures (1 - a) first + a second.

    Two checkpoints of one run, or two runs forked from one checkpoint, may be connected. Runs from different seeds are
    not, as a rule, before their units are matched by a permutation; a barrier between them says little.

    Args:
        loss: of a model with these parameters, on the same batch each time, in evaluation mode:
            `lambda p: criterion(torch.func.functional_call(model, p, (input_ids,)))`.
        first: parameters by name.
        second: those of the other model, of the same architecture. With tied parameters, each under one name.
        points: N, ends included; 11 to 25 are usual.

    Returns:
        The line; its `barrier` is max over a of L(a) - (1 - a) L(0) - a L(1).

    Raises:
        PicoLMError: the parameters differ in names or shapes, what is no floating-point number differs in value, or
            there are fewer than three points.

    Source:
        Frankle et al. 2020 (arXiv 1912.05671); this barrier: Entezari et al. 2022 (arXiv 2110.06296). N evaluations;
        one model more is held.
    """
    if points < 3:
        raise PicoLMError(f"a line between two models needs three points or more, not {points}")
    _check(first, second)
    places = torch.linspace(0, 1, points, dtype=torch.float64)
    losses = [
        float(loss({name: _mixture(first[name], second[name], place) for name in first})) for place in places.tolist()
    ]
    return Line(places, torch.tensor(losses, dtype=torch.float64))


def _mixture(first: Tensor, second: Tensor, place: float) -> Tensor:
    # Exact at both ends, which `lerp` is.
    return torch.lerp(first, second, place) if first.is_floating_point() else first


def _check(first: Parameters, second: Parameters) -> None:
    alone = sorted(first.keys() ^ second.keys())
    if alone:
        raise PicoLMError(f"the two models differ in their parameters: only one has {', '.join(alone[:5])}")
    for name, tensor in first.items():
        other = second[name]
        if tensor.shape != other.shape:
            raise PicoLMError(f"{name} is {list(tensor.shape)} in one model and {list(other.shape)} in the other")
        if not tensor.is_floating_point() and not torch.equal(tensor, other):
            raise PicoLMError(
                f"{name} holds no floating-point numbers and differs, so there is nothing between the two"
            )
