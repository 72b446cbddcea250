"""Models that PicoLM's own Transformer computes, as subjects: runs, original Pico models, Llama, Qwen3, EuroBERT."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor

from picolm.analysis.geometry import Geometry
from picolm.analysis.naming import Slot
from picolm.analysis.probe import Probe
from picolm.analysis.subject import Keep, Subject
from picolm.model.interface import LanguageModel
from picolm.model.sites import Site, recorded, sites_of


class OwnSubject(Subject):
    """A `LanguageModel`; all of its sites can be seen."""

    def __init__(self, model: LanguageModel, geometry: Geometry) -> None:
        """Take a model in float32 or more, on the host."""
        self.model, self.module, self.geometry = model, model, geometry

    @cached_property
    def _sites(self) -> dict[str, Site]:
        return sites_of(self.model)

    @property
    def sites(self) -> Collection[str]:
        """As `Subject.sites`."""
        return self._sites

    @cached_property
    def _slots(self) -> dict[str, Slot]:
        slots = {name.removesuffix(".weight"): Slot(name) for name, _ in self.model.named_parameters()}
        if "unembedding" not in slots:
            slots["unembedding"] = Slot("embedding.weight")
        return slots

    @property
    def slots(self) -> Mapping[str, Slot]:
        """As `Subject.slots`."""
        return self._slots

    @contextmanager
    def recorded(self, names: Sequence[str], keep: Keep) -> Iterator[None]:
        """As `Subject.recorded`."""

        def take(name: str, tensor: Tensor, positions: int) -> None:
            keep(name, by_head(tensor, positions))

        with recorded(self.model, {name: self._sites[name] for name in names}, take):
            yield

    def hidden(self, rows: Probe) -> Tensor:
        """As `Subject.hidden`."""
        # Padding is a document of its own, so no mask is needed then.
        given = {"attention_mask": rows.mask} if rows.documents is None else {"documents": rows.documents}
        hidden: Tensor = self.model(rows.input_ids, **given)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """As `Subject.logits`."""
        return self.model.logits(hidden)


def by_head(activation: Tensor, positions: int) -> Tensor:
    """Turn [R, T, heads, C], as norms of queries and keys see it, to [R, heads, T, C]; all else stays as it is."""
    return activation.transpose(1, 2) if activation.dim() == 4 and positions == 1 else activation


def fill(model: LanguageModel, weights: Mapping[str, Tensor]) -> None:
    """Give a model that was built on the `meta` device its weights by canonical name, in float32 or more."""
    state = {
        name: weights[name.removesuffix(".weight")].to(
            torch.promote_types(weights[name.removesuffix(".weight")].dtype, torch.float32)
        )
        for name in model.state_dict()
    }
    model.load_state_dict(state, strict=True, assign=True)
