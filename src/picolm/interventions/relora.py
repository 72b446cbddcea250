"""ReLoRA (Lialin et al. 2023): low-rank adapters that are merged and begun anew, so that many small ranks add up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.interventions.group_rates import multiplied
from picolm.interventions.jagged_rate import published_multiple, rewarmed
from picolm.interventions.merging import Merging
from picolm.interventions.ranks import Budget
from picolm.interventions.relora_settings import ReLoRASettings
from picolm.interventions.state_reset import StateReset
from picolm.model.adapters import (
    AdaptedLinear,
    adapted_layers,
    is_adapter,
    linear_layers,
    merge_adapters,
    replace_layers,
)
from picolm.model.interface import LanguageModel
from picolm.model.sites import matching
from picolm.seams import Group, Intervention, Rate, Run

_SAME_LOSS = 1e-3
"""How far a merge may move the mean loss of the probe, relative to it: rounding, far below what any error would do."""


class ReLoRA(Intervention):
    """Trains B A beside frozen weights W; now and then W takes up s B A, and A, B, their moments and the rate restart.

    These happen after one update as one event, and what it leaves is in the checkpoint. After k merges the rank of
    W - W_start is at most (k + 1) r. What is saved is the merged model, a plain one.
    """

    class Settings(ReLoRASettings):
        """All that can be set."""

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.cycles, self.each = settings.cycles, settings.each
        self.merges, self.restarted = 0, settings.start
        self.origin: int | None = None
        """The step at which it began, once it has."""
        self.ranks: dict[str, int] = {}
        self.holds: dict[str, list[Any]] = {}
        """Rank and scale of the adapters that hold something; none after a merge."""
        self.begun: dict[str, list[Any]] = {}
        """Rank and scale of the adapters that had their first values."""
        self.merging = Merging(settings)
        self._told: tuple[schema.Config, dict[str, list[Any]]] | None = None

    def stages(self) -> Sequence[int]:
        """Where adapters come and go, or change their ranks."""
        return self.cycles.stages(each=self.each)

    def model(self, model: LanguageModel, step: int, run: Run) -> LanguageModel:
        """Put adapters on the layers, where the step has some."""
        settings, layers = self.settings, linear_layers(model)
        names = matching(settings.modules, list(layers), key="relora.modules", what="linear layer")
        whole = matching(settings.full_rank, names, key="relora.full_rank", what="layer with an adapter")
        sides = {name: layers[name].weight.shape for name in names if name not in whole}
        self._refuse(run.config, sides, step)
        if not self.ranks:
            self.ranks = self._ranks(sides, self.merges)
        form: dict[str, list[Any]] = {}
        if self.cycles.low_rank(step):
            form = {name: [self.ranks[name], self._scale(self.ranks[name])] for name in sides}
        self._told = (run.config, form)
        if self.holds and self.holds != form:
            raise PicoLMError(
                f"the adapters at step {step} are not merged, and those of the settings are others: fork right after a "
                "merge, or leave this intervention out with --without, which merges them"
            )
        made = {
            name: AdaptedLinear(layers[name], rank, scale=scale, dropout=settings.dropout)
            for name, (rank, scale) in form.items()
        }
        replace_layers(model, made)
        return model

    def groups(self, groups: list[Group]) -> list[Group]:
        """Give A and B groups of their own where they have rates of their own."""
        rates = {"a": self.settings.a_rate, "b": self.settings.b_rate}
        return multiplied(
            groups, lambda name: rates.get(name.rpartition(".adapter_")[2][0], 1.0) if is_adapter(name) else 1.0
        )

    def schedule(self, rate: Rate) -> Rate:
        """Let the rate fall to zero and rise again with each cycle, or at steps of its own."""
        settings = self.settings
        assert self._told is not None, "the model is built before the schedule"
        config = self._told[0]

        def published(step: int, group: Group) -> float:
            multiple = published_multiple(
                step,
                total_steps=config.training.steps,
                warmup_steps=config.schedule.warmup_steps,
                period=settings.period or config.training.steps,
                rewarmup_steps=settings.rise,
                floor=getattr(config.schedule, "final_fraction", 0.0),
            )
            return float(group["peak"] * multiple)

        def jagged(step: int, group: Group) -> float:
            since = self.restarted
            if settings.restart_every is not None and step >= settings.start:
                since = settings.start + (step - settings.start) // settings.restart_every * settings.restart_every
            # Where adapters are there from the first step on, the schedule's own warm-up is theirs.
            if since == 0 or step < since:
                return rate(step, group)
            return rewarmed(rate, step, group, since=since, over=settings.rise)

        return published if settings.is_published else jagged

    def before_step(self, run: Run) -> None:
        """Begin where structure has just changed: give new adapters their first values."""
        step, layers = run.step, adapted_layers(run.model)
        assert self._told is not None
        form = self._told[1]
        if step == self.settings.start:
            self.origin = step
            self.merging.keep_start(layers)
        if not layers and self.begun:
            run.record("full_rank", layers=len(self.begun))
        new = {name: layer for name, layer in layers.items() if self.begun.get(name) != form[name]}
        if new:
            self.merging.begin(run, new)
            run.record("adapters", layers=len(new), ranks=sum(layer.rank for layer in new.values()))
        self.begun = form

    def gradients(self, run: Run) -> None:
        """Do as an engine with hidden copies of the weights does, where this defect is wanted: nothing else."""
        self.merging.undo_reinit(run)

    def after_step(self, run: Run) -> None:
        """Merge, begin anew, reset and restart, where a cycle ends."""
        layers, done = adapted_layers(run.model), run.step
        self.merging.refuse_hidden_copies(layers)
        if self._told is not None:
            self.holds = self._told[1]
        if not layers and self.cycles.low_rank(done) and self.settings.reset != "keep":
            # The weights come to rest now. Their moments would take room until then, and be out of date.
            run.reset_state([f"{name}.weight" for name in self.ranks])
        if not self.cycles.ends(done):
            return
        self.restarted = done
        if not layers:
            return
        before = self._probe(run)
        if self.settings.merge:
            used = self.merging.merge(run, layers)
            self.merges, self.holds = self.merges + 1, {}
            self._next_ranks(layers, used)
        reset = self._reset(run, layers)
        after = self._probe(run)
        losses = {} if before is None else {"loss_before": before, "loss_after": after}
        event = "merged" if self.settings.merge else "reset"
        run.record(event, number=self.merges, next=self.cycles.next_end(done), zeroed=reset.fraction, **losses)
        self._refuse_other_function(before, after)

    def export(self, model: LanguageModel) -> LanguageModel | None:
        """Merge."""
        merge_adapters(model)
        return model

    def state_dict(self) -> dict[str, Any]:
        """Which merge it is at, where the rate restarted, ranks, W_start; next merge and seeds follow from the step."""
        kept = {"start": self.merging.starts, "master": self.merging.masters}
        tensors = {f"{kind}:{name}": value for kind, values in kept.items() for name, value in values.items()}
        facts = {"merges": self.merges, "restarted": self.restarted, "origin": self.origin, "ranks": self.ranks}
        return {**facts, "rule": self._rule, "holds": self.holds, "begun": self.begun, **tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take that up."""
        self.merges, self.restarted, self.origin = int(state["merges"]), int(state["restarted"]), state["origin"]
        self.holds, self.begun = dict(state["holds"]), dict(state["begun"])
        # A fork with another rule begins with the ranks of that.
        self.ranks = dict(state["ranks"]) if state["rule"] == self._rule else {}
        for kind, values in (("start:", self.merging.starts), ("master:", self.merging.masters)):
            values.update({key.removeprefix(kind): value for key, value in state.items() if key.startswith(kind)})

    @property
    def _rule(self) -> dict[str, Any]:
        """What decides about ranks."""
        keys = {"modules", "full_rank", "rank", "rank_fraction", "rank_map", "rank_schedule", "adapt", "lowest_rank"}
        return self.settings.model_dump(mode="json", include=keys)

    def _refuse(self, config: schema.Config, layers: Mapping[str, Any], step: int) -> None:
        settings, steps = self.settings, config.training.steps
        if not layers:
            raise PicoLMError("relora.full_rank leaves no layer for an adapter")
        if config.optimizer.kind != "adamw":
            raise PicoLMError(
                f"relora resets Adam's moments, and optimizer.kind is {config.optimizer.kind}: use optimizer.kind=adamw"
            )
        if config.training.ema is not None:
            raise PicoLMError(
                "an average of A and of B is no average of what they add: leave training.ema out of relora"
            )
        if step > settings.start and self.origin is None:
            raise PicoLMError(
                f"relora begins at step {settings.start}, and the run is at {step}: set relora.start={step}"
            )
        if settings.start >= steps:
            raise PicoLMError(f"relora.start {settings.start} is beyond the {steps} steps of the run")
        if settings.merge_every > steps - settings.start:
            raise PicoLMError(
                f"relora.merge_every {settings.merge_every} leaves no merge in {steps - settings.start} steps with "
                "adapters: give less, or merge_every=0 for plain LoRA"
            )

    def _scale(self, rank: int) -> float | None:
        settings = self.settings
        roots = {"rank": float(rank), "root": math.sqrt(rank)}
        return None if settings.scaling == "learned" else settings.alpha / roots[settings.scaling]

    def _ranks(self, sides: Mapping[str, Sequence[int]], cycle: int) -> dict[str, int]:
        """The rank of each layer in a cycle, by rule."""
        settings = self.settings
        multiple = settings.rank_schedule[min(cycle, len(settings.rank_schedule) - 1)]
        ranks = {}
        for name, shape in sides.items():
            mapped = [rank for pattern, rank in settings.rank_map.items() if fnmatchcase(name, pattern)]
            whole = (mapped[0] if mapped else settings.rank) or settings.rank_fraction * min(shape)
            ranks[name] = min(max(round(multiple * whole), 1), min(shape))
        return ranks

    def _next_ranks(self, layers: Mapping[str, AdaptedLinear], used: Mapping[str, float]) -> None:
        if not self.each:
            return
        sides = {name: layer.weight.shape for name, layer in layers.items()}
        self.ranks = self._ranks(sides, self.merges)
        if self.settings.adapt:
            costs = {name: sum(shape) for name, shape in sides.items()}
            parameters = sum(costs[name] * rank for name, rank in self.ranks.items())
            highest = {name: min(shape) for name, shape in sides.items()}
            self.ranks = Budget(parameters, costs, self.settings.lowest_rank, highest).share_out(used)

    def _reset(self, run: Run, layers: Mapping[str, AdaptedLinear]) -> StateReset:
        settings, step = self.settings, run.step
        kind, ratio, shared, count = settings.reset, settings.reset_ratio, settings.reset_shared, settings.reset_count
        if settings.is_published:
            kind, ratio, shared, count = "random", 0.999, False, False
        reset = StateReset(kind, ratio, shared, count, lambda *key: run.torch_rng(*key, step))
        if kind != "keep":
            run.reset_state([f"{name}.{part}" for name, layer in layers.items() for part in layer.adapter_names], reset)
        return reset

    def _probe(self, run: Run) -> float | None:
        """The mean loss of the first rows, so that a merge that changes the function is seen at once."""
        rows = min(self.settings.probe_rows, run.n_rows)
        return float(run.score(np.arange(rows, dtype=np.int64)).mean()) if rows else None

    def _refuse_other_function(self, before: float | None, after: float | None) -> None:
        if before is None or after is None or self.settings.all_defects:
            return
        if abs(after - before) > _SAME_LOSS * abs(before):
            raise PicoLMError(
                f"merge {self.merges} moved the loss of the probe from {before:.6f} to {after:.6f}: it must not"
            )
