"""What every language model here offers: hidden states, an output matrix, the roles of its parameters, its cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from picolm.config import schema

Role = Literal["embedding", "norm", "matrix"]


class LanguageModel(nn.Module, ABC):
    """A map from token ids [B, T] to hidden states [B, T, D], and an output matrix [V, D] from there to logits.

    The two are apart so that a loss never need hold the logits [B, T, V].
    """

    config: schema.Model

    @abstractmethod
    def forward(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return hidden states after the last norm.

        Args:
            input_ids: token ids [B, T].
            attention_mask: True at real tokens, False at padding [B, T]; None: no padding. Padding may stand anywhere;
                hidden states there mean nothing.
            features: further tensors that every block is handed, each for whole rows [B] or by position [B, T, ...];
                blocks of the base class read none. With a cache: those of the tokens that are given.
        """

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers between embedding and last norm, in order; they are compiled one by one. None: nothing is."""
        return nn.ModuleList()

    @property
    @abstractmethod
    def output_matrix(self) -> Tensor:
        """The unembedding [V, D]."""

    @abstractmethod
    def role(self, name: str) -> Role:
        """What the named parameter is: it decides about weight decay and initial values."""

    @property
    def residual(self) -> tuple[str, ...]:
        """Paths of the modules whose outputs [B, T, D] are the residual stream, from the embedding on; empty: none."""
        return ()

    def logits(self, hidden: Tensor) -> Tensor:
        """Return next-token (or masked-token) logits [B, T, V] for hidden states [B, T, D]."""
        return F.linear(hidden, self.output_matrix)
