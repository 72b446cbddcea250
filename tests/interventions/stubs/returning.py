"""A matrix that goes and comes back, that records its own first element, and that nobody writes for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from picolm.model.interface import LanguageModel
from picolm.model.transformer import Transformer
from picolm.seams import Intervention, Run


class Shifted(nn.Module):
    """The embedding, with a learned shift of all of it."""

    def __init__(self, base: nn.Embedding) -> None:
        super().__init__()
        self.weight = base.weight
        self.shift = nn.Parameter(torch.zeros(1, base.weight.shape[1]))

    def forward(self, input_ids: Tensor) -> Tensor:
        return nn.functional.embedding(input_ids, self.weight) + self.shift


class Returning(Intervention):
    """Has the shift in steps 0 to 2 and from step 6 on."""

    def stages(self) -> Sequence[int]:
        return (3, 6)

    def model(self, model: LanguageModel, step: int, run: Run) -> LanguageModel:
        assert isinstance(model, Transformer)
        run.record("built", has_shift=step < 3 or step >= 6)
        if step < 3 or step >= 6:
            model.embedding = Shifted(model.embedding)  # type: ignore[assignment]
        return model

    def after_step(self, run: Run) -> None:
        weight = run.model.get_parameter("embedding.weight")
        run.record("seen", first=weight[0, 0], place=weight.detach()[0].argmax())

    def export(self, model: LanguageModel) -> LanguageModel | None:
        assert isinstance(model, Transformer)
        if isinstance(model.embedding, Shifted):
            plain = nn.Embedding.from_pretrained(model.embedding.weight + model.embedding.shift, freeze=False)
            model.embedding = plain
        return model
