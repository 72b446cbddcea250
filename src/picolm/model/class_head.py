"""The head that reads the class of a word off a hidden state: one hidden layer, as RoBERTa's head for tokens has it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INIT_STD = 0.02


class ClassHead(nn.Module):
    """Dense, GELU, LayerNorm, linear: [..., D] -> [..., K].

    Args:
        d_model: D.
        n_classes: K.
        generator: on the CPU; initial values are drawn from it.
    """

    def __init__(self, d_model: int, n_classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.dense, self.norm, self.out = (
            nn.Linear(d_model, d_model),
            nn.LayerNorm(d_model),
            nn.Linear(d_model, n_classes),
        )
        for layer in (self.dense, self.out):
            nn.init.normal_(layer.weight, std=INIT_STD, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """The score of each class."""
        scores: Tensor = self.out(self.norm(F.gelu(self.dense(hidden))))
        return scores
