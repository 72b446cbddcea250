"""A head for classes that are other ones in each task: what is learned of it, and where a task begins.

Shapes: D width of the features, H of the last hidden layer (D where there is none), N classes of a task, V token types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Start = Literal["zero", "prototypes", "random", "vocabulary"]

INIT_STD = 0.02


class TaskHead(nn.Module):
    """Hidden layers, which all tasks share, and a last layer [N, H] that begins anew in each task.

    ==============  ===========================================================================================
    start           last layer at the beginning of a task
    ==============  ===========================================================================================
    `zero`          0. A row learned for all classes alike is the same thing: it would move all logits together
    `prototypes`    row 2 mu_c, bias -|mu_c|^2 for the mean mu_c of the class's support features: the logits are
                    then -|h - mu_c|^2 but for a constant (Snell et al. 2017; Triantafillou et al. 2020)
    `random`        N(0, 0.02^2), drawn for each task
    `vocabulary`    the rows of the task's token types in a table [V, H], which is learned
    ==============  ===========================================================================================

    The methods are pure functions of the parameters that they are given, so tasks can be adapted side by side.
    """

    def __init__(
        self, d_model: int, hidden: Sequence[int], start: Start, vocab_size: int, generator: torch.Generator
    ) -> None:
        """Draw the first values.

        Args:
            d_model: D.
            hidden: widths of the hidden layers, from the first to the last.
            start: how a task begins.
            vocab_size: V.
            generator: on the CPU.
        """
        super().__init__()
        self.start = start
        self.width = hidden[-1] if hidden else d_model
        self.n_hidden = len(hidden)
        for number, (inner, outer) in enumerate(zip([d_model, *hidden], hidden, strict=False)):
            bound = (6 / (inner + outer)) ** 0.5
            weight = torch.empty(outer, inner).uniform_(-bound, bound, generator=generator)
            self.register_parameter(f"hidden_{number}_weight", nn.Parameter(weight))
            self.register_parameter(f"hidden_{number}_bias", nn.Parameter(torch.zeros(outer)))
        if start == "vocabulary":
            self.table = nn.Parameter(torch.empty(vocab_size, self.width).normal_(0.0, INIT_STD, generator=generator))

    def trained(self) -> dict[str, Tensor]:
        """What is learned over the tasks, by name."""
        return dict(self.named_parameters())

    def begin(
        self, trained: Mapping[str, Tensor], features: Tensor, labels: Tensor, types: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        """The head at the beginning of a task.

        Args:
            trained: as `trained` gives it.
            features: of the support [N K, D].
            labels: of the support [N K].
            types: the token type of each class [N].
            noise: standard normal [N, H], for `random`.

        Returns:
            The hidden layers, and `weight` [N, H] and `bias` [N].
        """
        hidden = {name: value for name, value in trained.items() if name != "table"}
        zero = features.new_zeros(len(types))
        if self.start == "zero":
            return {**hidden, "weight": features.new_zeros(len(types), self.width), "bias": zero}
        if self.start == "random":
            return {**hidden, "weight": (INIT_STD * noise).to(features.dtype), "bias": zero}
        if self.start == "vocabulary":
            return {**hidden, "weight": trained["table"][types], "bias": zero}
        members = F.one_hot(labels, len(types)).to(features.dtype)
        means = members.T @ self.inner(hidden, features) / members.sum(dim=0)[:, None]
        return {**hidden, "weight": 2 * means, "bias": -means.square().sum(dim=-1)}

    def inner(self, parameters: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Through the hidden layers: [..., D] -> [..., H]."""
        for number in range(self.n_hidden):
            weight, bias = (parameters[f"hidden_{number}_{part}"] for part in ("weight", "bias"))
            features = F.relu(F.linear(features, weight, bias))
        return features

    def logits(self, parameters: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """[..., D] -> [..., N], for parameters as `begin` gives them."""
        return F.linear(self.inner(parameters, features), parameters["weight"], parameters["bias"])
