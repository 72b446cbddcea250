"""Gradients projected before they are clipped (in the manner of GaLore, Zhao et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from picolm.config import schema
from picolm.config.section import Positive, Strings
from picolm.interventions.patterns import matching
from picolm.seams import Intervention, Run


class Projection(Intervention):
    """G <- U U^T G for chosen matrices, U the left singular vectors [M, r] of their gradient every `every` steps."""

    class Settings(schema.Section):
        """Which matrices, and onto how much."""

        matrices: Strings = Field(("layers.*.mlp.up_proj",), description="patterns of names")
        rank: Positive = Field(4, description="singular vectors that are kept")
        every: Positive = Field(3, description="steps between two bases")

    settings: Settings

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.bases: dict[str, Tensor] = {}

    def gradients(self, run: Run) -> None:
        names = matching(self.settings.matrices, run.parameters, "projection.matrices")
        is_new = run.step % self.settings.every == 0
        kept, whole = [], []
        for name in names:
            gradient = run.parameters[name].grad
            if gradient is None:
                continue
            if is_new or name not in self.bases:
                self.bases[name] = (
                    torch.linalg.svd(gradient.nan_to_num(), full_matrices=False).U[:, : self.settings.rank].clone()
                )
            whole.append(gradient.square().sum())
            basis = self.bases[name].to(gradient.device)
            gradient.copy_(basis @ (basis.mT @ gradient))
            kept.append(gradient.square().sum())
        if kept:
            share = (torch.stack(kept).sum() / torch.stack(whole).sum()).sqrt()
            run.record("projected", kept=share, matrices=len(kept), new_basis=is_new)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.bases)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.bases = dict(state)
