"""A number of each document reaches every block of the model, which adds a learned embedding of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from picolm.config import schema
from picolm.config.section import Positive
from picolm.model.interface import LanguageModel
from picolm.model.transformer import Block
from picolm.seams import Intervention, Run, Sequences, View

FEATURE = "bin"


class NumberedBlock(Block):
    """A block of the base class, with its parameters under their names, that adds an embedding of the feature."""

    def __init__(self, base: Block, n_bins: int, width: int, generator: torch.Generator) -> None:
        nn.Module.__init__(self)
        for name, child in base.named_children():
            self.add_module(name, child)
        self.bins = nn.Embedding.from_pretrained(
            torch.empty(n_bins + 1, width).normal_(0.0, 0.02, generator=generator), freeze=False
        )

    def forward(self, x: Tensor, rotary, key_mask, mix=None, features=None) -> Tensor:  # type: ignore[no-untyped-def]
        if features is not None:
            x = x + self.bins(features[FEATURE])
        return super().forward(x, rotary, key_mask, mix, features)


class Metadata(Intervention):
    """Hands `field` of each position's document, in `bins` bins, to every block; 0 where it is not known."""

    class Settings(schema.Section):
        """Which field."""

        field: str = Field("number", description="of the documents' metadata, a number")
        bins: Positive = Field(4, description="a number's bin is its value modulo this")

    settings: Settings

    def views(self, views: tuple[View, ...], sequences: Sequences, run: Run, *, measure: bool) -> tuple[View, ...]:
        values = run.metadata(sequences.stream, self.settings.field)
        numbers = sequences.documents[:, :-1]
        known = {number: values[number] for number in np.unique(numbers).tolist() if number >= 0}
        bins = {number: 0 if value is None else 1 + value % self.settings.bins for number, value in known.items()}
        feature = torch.from_numpy(np.vectorize(lambda number: bins.get(number, 0), otypes=[np.int64])(numbers))
        return tuple(
            replace(view, tensors={**view.tensors, FEATURE: feature}, features=(*view.features, FEATURE))
            if view.n_rows == len(feature)
            else view
            for view in views
        )

    def model(self, model: LanguageModel, step: int, run: Run) -> LanguageModel:
        for number, block in enumerate(model.blocks):
            assert isinstance(block, Block)
            draws = run.torch_rng("bins", number)
            model.blocks[number] = NumberedBlock(block, self.settings.bins, model.config.d_model, draws)
        run.record("blocks", replaced=len(model.blocks), bins=self.settings.bins)
        return model

    def export(self, model: LanguageModel) -> LanguageModel | None:
        return None
