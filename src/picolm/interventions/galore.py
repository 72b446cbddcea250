"""GaLore (Zhao et al. 2024): whole weights, whose gradients and moments live in a subspace that moves now and then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from picolm.config import schema
from picolm.config.section import Positive, PositiveReal, Strings
from picolm.errors import PicoLMError
from picolm.model.adapters import ProjectedLinear, linear_layers, plain_layer, projected_layers, replace_layers
from picolm.model.interface import LanguageModel
from picolm.model.sites import matching
from picolm.seams import Group, Intervention, Rate, Run


class GaLore(Intervention):
    """W <- (1 - lr wd) W + scale P Adam(P^T G), with P the first singular vectors of the gradient G every so often.

    P is on the shorter side of W. The optimizer sees P^T G as the gradient of a `core` [R, I], which is zero before
    each update and after it is added to W and emptied, so that Adam's moments are those of the subspace.
    """

    class Settings(schema.Section):
        """Which layers, onto how much, and how often the subspace moves."""

        modules: Strings = Field(
            ("layers.*.attention.*_proj", "layers.*.mlp.*_proj"), description="patterns of linear layers"
        )
        rank: Positive | None = Field(None, description="dimensions of the subspace; null: by rank_fraction")
        rank_fraction: float = Field(0.25, gt=0.0, le=1.0, description="rank as a share of the layer's smaller side")
        refresh_every: Positive = Field(200, description="updates between two subspaces")
        scale: PositiveReal = Field(0.25, description="of the update")
        on_refresh: Literal["keep", "project", "zero"] = Field(
            "keep", description="moments in a new subspace: as they are (as published), turned into it, or begun anew"
        )

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.bases: dict[str, Tensor] = {}
        self.decay = 0.0

    def model(self, model: LanguageModel, step: int, run: Run) -> LanguageModel:
        """Give the layers room for a step in a subspace."""
        if run.config.optimizer.kind != "adamw":
            raise PicoLMError(f"galore runs Adam in a subspace, and optimizer.kind is {run.config.optimizer.kind}")
        layers = linear_layers(model)
        names = matching(self.settings.modules, list(layers), key="galore.modules", what="linear layer")
        replace_layers(model, {name: ProjectedLinear(layers[name], self._rank(layers[name].weight)) for name in names})
        return model

    def groups(self, groups: list[Group]) -> list[Group]:
        """Part cores from weights: they never decay, for what decays is the weight."""
        made = []
        for group in groups:
            is_core = [name.endswith(".core") for name in group["names"]]
            for wanted in (False, True):
                chosen = [place for place, found in enumerate(is_core) if found == wanted]
                if chosen:
                    names, params = ([group[key][place] for place in chosen] for key in ("names", "params"))
                    made.append({**group, "names": names, "params": params})
                    if wanted:
                        made[-1] |= {"weight_decay": 0.0, "decay_of_weights": group["weight_decay"]}
        return made

    def schedule(self, rate: Rate) -> Rate:
        """Remember by how much the weights decay in an update."""

        def remembered(step: int, group: Group) -> float:
            value = rate(step, group)
            if "decay_of_weights" in group:
                self.decay = value * group["decay_of_weights"]
            return value

        return remembered

    def gradients(self, run: Run) -> None:
        """Hand the optimizer the part of each gradient that lies in the subspace."""
        kept, whole = [], []
        is_due = run.step % self.settings.refresh_every == 0
        for name, layer in projected_layers(run.model).items():
            gradient = layer.weight.grad
            if gradient is None:
                continue
            # Nothing is kept of what is not finite: the optimizer will skip the update.
            if (is_due or name not in self.bases) and bool(gradient.isfinite().all()):
                self._refresh(run, name, layer, gradient)
            if name not in self.bases:
                layer.core.grad = torch.full_like(layer.core, torch.nan)
            else:
                layer.core.grad = _inside(self.bases[name].to(gradient.device), gradient)
            kept.append(layer.core.grad.square().sum())
            whole.append(gradient.square().sum())
            layer.weight.grad = None
        if is_due and kept:
            share = (torch.stack(kept).sum() / torch.stack(whole).sum()).sqrt()
            run.record("subspace", matrices=len(kept), kept=share)

    def after_step(self, run: Run) -> None:
        """Add what was learned in the subspace to the weights, and empty it."""
        with torch.no_grad():
            for name, layer in projected_layers(run.model).items():
                if name in self.bases:
                    # Where the update was skipped nothing decays either; the host does not wait to learn so.
                    layer.weight.mul_(1 - self.decay * layer.core.any())
                    basis = self.bases[name].to(layer.core.device)
                    layer.weight.add_(_outside(basis, layer.core, layer.weight), alpha=self.settings.scale)
                    layer.core.zero_()

    def export(self, model: LanguageModel) -> LanguageModel | None:
        """Leave the empty cores out."""
        replace_layers(model, {path: plain_layer(layer) for path, layer in projected_layers(model).items()})
        return model

    def state_dict(self) -> dict[str, Any]:
        """The subspaces."""
        return dict(self.bases)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them up."""
        self.bases = dict(state)

    def _rank(self, weight: Tensor) -> int:
        smaller = min(weight.shape)
        return min(self.settings.rank or max(round(self.settings.rank_fraction * smaller), 1), smaller)

    def _refresh(self, run: Run, name: str, layer: ProjectedLinear, gradient: Tensor) -> None:
        """Move the subspace, and the moments as the settings say."""
        left, _, right = torch.linalg.svd(gradient, full_matrices=False)
        chosen = (left if _is_wide(gradient) else right.mT)[:, : self._rank(gradient)]
        # Laid out as a checkpoint gives it back: products round by layout.
        basis = chosen.clone(memory_format=torch.contiguous_format)
        former, self.bases[name] = self.bases.get(name), basis
        policy = self.settings.on_refresh
        if former is None or policy == "keep":
            return
        turn = basis.mT @ former.to(basis.device)

        def turned(parameter: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
            if policy == "zero":
                return {}
            # Of the second moment, as if the directions of the old subspace were independent of each other.
            first, second = (state["exp_avg"], turn), (state["exp_avg_sq"], turn.square())
            moved = [by @ moment if _is_wide(gradient) else moment @ by.mT for moment, by in (first, second)]
            return {**state, "exp_avg": moved[0], "exp_avg_sq": moved[1]}

        run.reset_state([f"{name}.core"], turned)


def _is_wide(matrix: Tensor) -> bool:
    return matrix.shape[0] <= matrix.shape[1]


def _inside(basis: Tensor, matrix: Tensor) -> Tensor:
    """P^T G [R, I], or G Q [O, R] where the columns are fewer."""
    return basis.mT @ matrix if _is_wide(matrix) else matrix @ basis


def _outside(basis: Tensor, core: Tensor, like: Tensor) -> Tensor:
    """P C [O, I], or C Q^T."""
    return basis @ core if _is_wide(like) else core @ basis.mT
