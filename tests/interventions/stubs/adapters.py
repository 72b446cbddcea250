"""Low-rank adapters in place, switched by phase, merged and begun anew (in the manner of LoRA and ReLoRA)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from picolm.config import schema
from picolm.config.section import Counts, Positive, Strings
from picolm.model.interface import LanguageModel
from picolm.model.sites import matching
from picolm.seams import Intervention, Run


class AdaptedLinear(nn.Linear):
    """y = x W^T + scale x A^T B^T, with W [out, in] under the name it had, A [rank, in] and B [out, rank]."""

    def __init__(self, base: nn.Linear, rank: int, scale: float, generator: torch.Generator) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.scale = base.in_features, base.out_features, scale
        self.weight, self.bias = base.weight, base.bias
        self.adapter_a = nn.Parameter(torch.empty(rank, base.in_features))
        self.adapter_b = nn.Parameter(torch.empty(base.out_features, rank))
        self.begin(generator)

    @torch.no_grad()
    def begin(self, generator: torch.Generator) -> None:
        bound = 1 / math.sqrt(self.in_features)
        fresh = torch.empty(self.adapter_a.shape).uniform_(-bound, bound, generator=generator)
        self.adapter_a.copy_(fresh)
        self.adapter_b.zero_()

    @torch.no_grad()
    def merge(self) -> None:
        self.weight += self.scale * self.adapter_b @ self.adapter_a

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + self.scale * F.linear(F.linear(x, self.adapter_a), self.adapter_b)


def adapted(model: nn.Module) -> dict[str, AdaptedLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}


class Adapters(Intervention):
    """Adapters on chosen layers from each of `on` to each of `off`, merged every `merge_every` steps and at the end."""

    class Settings(schema.Section):
        """Where, when, how large."""

        layers: Strings = Field(("layers.*.attention.q_proj", "layers.*.mlp.down_proj"), description="modules")
        on: Counts = Field((2,), description="steps from which there are adapters")
        off: Counts = Field((8,), description="steps from which there are none again")
        rank: Positive = Field(2, description="of B A")
        scale: float = Field(2.0, description="of B A")
        merge_every: Positive = Field(3, description="steps between two merges, counted from the step of `on`")
        frozen: bool = Field(True, description="whether the weights under the adapters rest meanwhile")

    settings: Settings

    def stages(self) -> Sequence[int]:
        return (*self.settings.on, *self.settings.off)

    def begun(self, step: int) -> int | None:
        """The step at which the phase of a step began; None where it has none."""
        on = max((at for at in self.settings.on if at <= step), default=-1)
        return None if on < 0 or any(on < at <= step for at in self.settings.off) else on

    def model(self, model: LanguageModel, step: int, run: Run) -> LanguageModel:
        begun = self.begun(step)
        if begun is None:
            return model
        modules = dict(model.named_modules())
        for name in matching(self.settings.layers, list(modules), key="adapters.layers", what="module"):
            base, (parent, _, child) = modules[name], name.rpartition(".")
            assert isinstance(base, nn.Linear)
            layer = AdaptedLinear(base, self.settings.rank, self.settings.scale, run.torch_rng("begin", begun, name))
            layer.weight.requires_grad_(not self.settings.frozen)
            setattr(model.get_submodule(parent), child, layer)
        return model

    def before_step(self, run: Run) -> None:
        if run.step in self.stages():
            run.record("on" if run.step in self.settings.on else "off", adapters=len(adapted(run.model)))

    def after_step(self, run: Run) -> None:
        """Merge; what is begun anew is so before anything is saved."""
        layers, begun = adapted(run.model), self.begun(run.step - 1)
        if begun is None or not (run.step in self.settings.off or (run.step - begun) % self.settings.merge_every == 0):
            return
        norms = [(layer.scale * layer.adapter_b @ layer.adapter_a).norm() for layer in layers.values()]
        for name, layer in layers.items():
            layer.merge()
            layer.begin(run.torch_rng("begin", run.step, name))
        run.reset_state([f"{name}.{part}" for name in layers for part in ("adapter_a", "adapter_b")])
        run.record("merged", adapters=len(layers), norm=torch.stack(norms).norm().detach())

    def export(self, model: LanguageModel) -> LanguageModel | None:
        for name, layer in adapted(model).items():
            layer.merge()
            plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
            plain.weight, plain.bias = layer.weight, layer.bias
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, plain)
        return model
