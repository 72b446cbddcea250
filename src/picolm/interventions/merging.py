"""What happens to layers when their adapters are merged and begin anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from picolm.errors import PicoLMError
from picolm.interventions.ranks import effective_rank, rank_of_change, singular_values
from picolm.interventions.relora_settings import ReLoRASettings
from picolm.model.adapters import AdaptedLinear, first_a
from picolm.seams import Run


class Merging:
    """Merges the adapters of layers, gives them new first values, and follows the rank of W - W_start."""

    def __init__(self, settings: ReLoRASettings) -> None:
        self.settings = settings
        self.starts: dict[str, Tensor] = {}
        """W as it was when adapters were first put beside it, by layer."""
        self.masters: dict[str, Tensor] = {}
        """What the defect `undone_reinit` puts back before the next update."""
        self._begun: dict[str, tuple[Tensor, Tensor]] = {}
        """A before and after a merge, for one update: see `refuse_hidden_copies`."""

    def keep_start(self, layers: Mapping[str, AdaptedLinear]) -> None:
        """Remember what the layers are before anything is merged into them."""
        for name, layer in layers.items():
            if "bf16_weights" in self.settings.all_defects:
                layer.merge(layer.weight.bfloat16() - layer.weight)
            if self.settings.track_rank:
                self.starts[name] = layer.weight.detach().clone()

    def begin(self, run: Run, layers: Mapping[str, AdaptedLinear]) -> None:
        """Give adapters that are new their first values."""
        for name, layer in layers.items():
            layer.begin(self._first_a(run, name, layer))

    def merge(self, run: Run, layers: Mapping[str, AdaptedLinear]) -> dict[str, float]:
        """Let W take up what was learned, and A and B begin anew.

        Returns:
            The effective rank of what was merged, by layer.
        """
        settings, used = self.settings, {}
        for name, layer in layers.items():
            delta, old = layer.delta(), layer.a.detach().clone()
            used[name] = self._merge_layer(run, name, layer, delta)
            if "undone_reinit" in settings.all_defects:
                parts = {part: getattr(layer, part).detach().clone() for part in layer.adapter_names}
                self.masters |= {f"{name}.{part}": value for part, value in parts.items()}
            layer.begin(self._first_a(run, name, layer) if settings.reinitialise else old)
            if settings.reinitialise and not self.masters:
                self._begun[name] = (old, layer.a.detach().clone())
        return used

    def undo_reinit(self, run: Run) -> None:
        """Do as an engine with hidden copies of the weights does, where this defect is wanted."""
        with torch.no_grad():
            for name, value in self.masters.items():
                run.model.get_parameter(name).copy_(value)
        self.masters = {}

    def refuse_hidden_copies(self, layers: Mapping[str, AdaptedLinear]) -> None:
        """See to it that after the first update of a cycle A is near where it began.

        Raises:
            PicoLMError: it is where it was before the merge.
        """
        for name, (old, fresh) in self._begun.items():
            now = layers[name].a.detach() if name in layers else fresh
            if now.shape == old.shape and _cosine(now, old) > 0.99 > 2 * _cosine(now, fresh):
                raise PicoLMError(
                    f"the optimizer brought the adapter of {name} back to before its merge: an engine that keeps "
                    "copies of the weights (ZeRO, 8-bit) cannot be used with relora"
                )
        self._begun = {}

    def _first_a(self, run: Run, name: str, layer: AdaptedLinear) -> Tensor:
        """First values of A in the cycle that begins now: keyed by step and layer, so the same on all ranks."""
        settings = self.settings
        if run.step == settings.start and "zero_start" in settings.all_defects:
            return torch.zeros_like(layer.a)
        return first_a(settings.init, layer, run.torch_rng("begin", run.step, name), self._change(name, layer))

    def _change(self, name: str, layer: AdaptedLinear) -> Tensor | None:
        """W - W_start [O, I]; None where there is none to compare with."""
        if name not in self.starts:
            return None
        return layer.weight.detach() - self.starts[name].to(layer.weight.device)

    def _merge_layer(self, run: Run, name: str, layer: AdaptedLinear, delta: Tensor) -> float:
        """Merge one layer and say what became of it; the effective rank of what was merged."""
        defects = self.settings.all_defects
        layer.merge(layer.b.detach() @ layer.a.detach() if "unscaled_merge" in defects else delta)
        if "bf16_weights" in defects:
            layer.merge(layer.weight.bfloat16() - layer.weight)
        used = effective_rank(singular_values(delta))
        facts: dict[str, Any] = {"layer": name, "rank": layer.rank, "effective_rank": used, "norm": delta.norm()}
        change = self._change(name, layer)
        if change is not None:
            values = singular_values(change)
            facts |= {"change_effective_rank": effective_rank(values), "change_norm": change.norm()}
            facts["change_rank"] = rank_of_change(values, layer.weight)
        run.record("layer", **facts)
        return used


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0))
