"""The objective curriculum: word classes are predicted before tokens, or beside them, coarse ones first.

Martinez et al. 2023 (CLIMB) and Salhan et al. 2024 (MAO-CLIMB); `stages.yaml` holds their tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from picolm.config import schema
from picolm.config.section import Fraction, PositiveReal
from picolm.errors import PicoLMError
from picolm.interventions.class_terms import ClassTerm, classes_key, resting, scale_key, weighted, weights_of
from picolm.interventions.head_schedule import UNIT, parted, rise_and_fall
from picolm.interventions.stages import Stage, StageTable, stage_table
from picolm.interventions.word_classes import WordClasses
from picolm.model.class_head import ClassHead
from picolm.objective.corruption import BoolArray, Corruption, gathered
from picolm.objective.masked import masked_terms
from picolm.seams import IGNORE, Group, IntArray, Intervention, Objective, Rate, Run, Sequences, Term, View

NAME = "objective_curriculum"


class ObjectiveCurriculum(Intervention):
    """Adds a unit for each stage: at chosen places its head predicts the class of the word, not the word.

    In its stage a unit chooses a token with the rate `inside` if its class is listed, with `outside` if not. A masked
    model is shown a corrupted copy of the row for each unit (`corruption: own`), or predicts the classes where tokens
    are masked anyway (`shared`); a causal one predicts the class of the next token from the same forward. A head exists
    for the whole run, and neither it nor its moments change outside of its stage.
    """

    class Settings(schema.Section):
        """Which table, and how classes are predicted."""

        table: str = Field("growing", description="the name of a table of stages, or a .yaml file of yours")
        language: str | None = Field(None, description="whose stages are taken, where the table has some of its own")
        form: Literal["heads", "weights"] = Field(
            "heads",
            description="heads predict classes; or no head: tokens of listed classes weigh `inside`, others `outside`",
        )
        weight: float = Field(1.0, ge=0.0, description="of the classes' loss beside that of the tokens")
        corruption: Literal["own", "shared"] = Field(
            "own", description="(masked) a corrupted copy and a forward for each unit, or the tokens' own"
        )
        inside: Fraction = Field(0.4, description="how many of the tokens of listed classes are chosen")
        outside: Fraction = Field(0.15, description="how many of the others are")
        mask_fraction: Fraction = Field(0.8, description="(own) of the chosen, how many become the mask token")
        random_fraction: Fraction = Field(0.1, description="(own) of the chosen, how many become a random token")
        head_schedule: Literal["own", "run"] = Field(
            "own", description="the heads' learning rate: up and down within their stage, or that of the run"
        )
        head_learning_rate: PositiveReal = Field(1e-3, description="(own) of the heads, at its peak")
        head_warmup: Fraction = Field(0.1, description="(own) share of the stage in which it rises")
        control: Literal["none", "tokens", "shuffled"] = Field(
            "none", description="tokens: the units predict tokens (equal compute); shuffled: classes of other places"
        )

        @model_validator(mode="after")
        def _is_possible(self) -> ObjectiveCurriculum.Settings:
            if self.mask_fraction + self.random_fraction > 1.0:
                raise ValueError("mask_fraction and random_fraction are more than all chosen tokens together")
            if self.form == "weights" and (self.control != "none" or self.inside == self.outside == 0.0):
                raise ValueError("form=weights has no control, and needs a weight for some tokens")
            if self.control == "tokens" and self.corruption == "shared":
                raise ValueError("control=tokens needs corruption=own: where it is shared, tokens are predicted anyway")
            return self

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.table: StageTable = stage_table(settings.table)
        self.stages_of_run: tuple[Stage, ...] = self.table.of(settings.language)
        self.said: list[str] | None = None
        self._total_steps = 0

    def active(self, step: int, total_steps: int) -> tuple[list[Stage], bool]:
        """The stages that a step is in, and whether tokens are predicted in it."""
        stages = [stage for stage in self.stages_of_run if step in stage.steps(total_steps)]
        return stages, step in self.table.main_steps(total_steps)

    def views(self, views: tuple[View, ...], sequences: Sequences, run: Run, *, measure: bool) -> tuple[View, ...]:
        """Show the units that are active; with `measure` tokens alone are."""
        if measure:
            return views
        stages, has_main = self.active(sequences.step, run.config.training.steps)
        classes = WordClasses.of(run, self.table.tagset, NAME)
        units = [_Unit(stage, classes.numbers(stage.tags, f"{NAME}, {stage.name}")[1]) for stage in stages]
        kind = run.config.objective.kind
        if self.settings.form == "weights":
            return tuple(self._weighed(view, units, sequences) if view.name == kind else view for view in views)
        if self._is_own(run):
            kept = tuple(view for view in views if has_main or view.name != kind)
            return (*kept, *(self._own_view(unit, sequences, run) for unit in units))
        return tuple(
            self._beside(view, units, has_main, sequences, run) if view.name == kind else view for view in views
        )

    def objective(self, objective: Objective, step: int, run: Run) -> Objective:
        """Add a term and a head for each stage."""
        self._total_steps = run.config.training.steps
        classes = WordClasses.of(run, self.table.tagset, NAME)
        classes.refuse_uniform(run, NAME)
        kind = run.config.objective.kind
        if kind == "causal" and self.settings.control == "tokens":
            raise PicoLMError(
                f"{NAME}: a causal model predicts classes in the forward of its tokens: no control needed"
            )
        own = self._is_own(run)
        run.record("planned", **self._plan_of(run, own=own))
        if self.settings.form == "weights":
            if len(self.table.main_steps(self._total_steps)) < self._total_steps:
                raise PicoLMError(f"{NAME}: form=weights weighs tokens, which rest in a part of the table's run")
            return objective.with_terms({kind: weighted(objective.terms[kind])})
        terms: dict[str, Term] = {} if own else {kind: resting(objective.terms[kind])}
        for stage in self.stages_of_run:
            if stage.name in objective.terms:
                raise PicoLMError(f"{NAME}: a stage cannot be called {stage.name}, as a term of the run is")
            terms[stage.name] = self._term(stage, classes, stage.name if own else kind, objective, run)
        return objective.with_terms(terms)

    def groups(self, groups: list[Group]) -> list[Group]:
        """Part the heads from the rest, each by the name of its stage, where they have a schedule of their own."""
        if self.settings.head_schedule == "run" or self.settings.form == "weights":
            return groups
        for stage in self.stages_of_run:
            groups = parted(groups, stage.name, self.settings.head_learning_rate)
        return groups

    def schedule(self, rate: Rate) -> Rate:
        """Let the rate of a head rise and fall within its stage; those of all else are as they are."""
        stages = {stage.name: stage for stage in self.stages_of_run}

        def changed(step: int, group: Group) -> float:
            stage = stages.get(group.get(UNIT, ""))
            if stage is None:
                return rate(step, group)
            steps = stage.steps(self._total_steps)
            return float(group["peak"]) * rise_and_fall(step, steps, self.settings.head_warmup)

        return changed

    def before_step(self, run: Run) -> None:
        """Say in the log which units are active, where that changes."""
        stages, has_main = self.active(run.step, run.config.training.steps)
        names = [stage.name for stage in stages]
        said = [*names, *(["tokens"] if has_main else [])]
        if said != self.said:
            run.record("units", active=said)
            self.said = said

    def state_dict(self) -> dict[str, Any]:
        """What was said last."""
        return {"said": self.said}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take that up."""
        self.said = state["said"]

    def _is_own(self, run: Run) -> bool:
        """Whether each unit has a view of its own."""
        settings = self.settings
        return settings.form == "heads" and settings.corruption == "own" and run.config.objective.kind == "masked"

    def _weighed(self, view: View, units: Sequence[_Unit], sequences: Sequences) -> View:
        """The view of the tokens with the weights of what the active units list; as it is where none is active."""
        if not units:
            return view
        assert sequences.tags is not None
        targets, tags = view.tensors["targets"].numpy(), sequences.tags[:, 1:]
        if "positions" in view.tensors:
            tags = np.take_along_axis(sequences.tags[:, :-1], view.tensors["positions"].numpy(), axis=1)
        listed = np.any([unit.of_tag[tags] > 0 for unit in units], axis=0)
        added = weights_of(listed, targets != IGNORE, self.settings.inside, self.settings.outside)
        return replace(view, tensors={**view.tensors, **added})

    def _term(self, stage: Stage, classes: WordClasses, view: str, objective: Objective, run: Run) -> Term:
        if self.settings.control == "tokens":
            return replace(masked_terms()["masked"], view=view, weight=self.settings.weight)
        present, _ = classes.numbers(stage.tags, f"{NAME}, {stage.name}")
        head = ClassHead(objective.model.config.d_model, len(present) + 1, run.torch_rng("head", stage.name))
        term = ClassTerm(stage.name, head)
        return Term(view, term, self.settings.weight, token_losses=term.token_losses)

    def _own_view(self, unit: _Unit, sequences: Sequences, run: Run) -> View:
        """Rows that are corrupted for a unit alone, with the classes at the chosen places."""
        tokens, tokenizer = sequences.tokens[:, :-1], run.tokenizer
        assert tokenizer.mask_id is not None and sequences.tags is not None
        corruption = Corruption(
            mask_id=tokenizer.mask_id, special_ids=tokenizer.special_ids, vocab_size=tokenizer.vocab_size
        )
        real = np.arange(tokens.shape[1])[None] < sequences.valid[:, None]
        classes = self._classes(unit, sequences, sequences.tags[:, :-1], run)
        inputs, chosen = tokens.copy(), np.zeros(tokens.shape, dtype=bool)
        for row, number in enumerate(sequences.ids.tolist()):
            draw = run.rng("masks", unit.name, sequences.stream, sequences.step, number)
            chosen[row] = corruption.chosen(tokens[row], real[row], self._rates(classes[row]), draw)
            inputs[row] = corruption.corrupted(
                tokens[row],
                chosen[row],
                draw,
                mask_fraction=self.settings.mask_fraction,
                random_fraction=self.settings.random_fraction,
            )
        asks_tokens = self.settings.control == "tokens"
        positions, wanted = gathered(chosen, tokens if asks_tokens else classes)
        attention = {} if real.all() else {"attention_mask": torch.from_numpy(real)}
        view = View(
            name=unit.name,
            tensors={
                "input_ids": torch.from_numpy(inputs),
                "positions": torch.from_numpy(positions),
                "targets" if asks_tokens else classes_key(unit.name): torch.from_numpy(wanted),
                **attention,
            },
            units=chosen.sum(axis=1, dtype=np.int64),
            inputs=("input_ids", *attention),
            token_fields=frozenset({"input_ids", "targets"} if asks_tokens else {"input_ids"}),
        )
        return view.with_documents(sequences.segments) if run.config.data.document_borders else view

    def _beside(self, view: View, units: Sequence[_Unit], has_main: bool, sequences: Sequences, run: Run) -> View:
        """The view of the tokens with the classes of the units; without its targets where tokens rest."""
        tensors = dict(view.tensors)
        targets = tensors["targets"].numpy()
        for unit in units:
            assert sequences.tags is not None
            if "positions" in tensors:
                of_row = self._classes(unit, sequences, sequences.tags[:, :-1], run)
                classes = np.take_along_axis(of_row, tensors["positions"].numpy(), axis=1)
                chosen = targets != IGNORE
            else:
                classes = self._classes(unit, sequences, sequences.tags[:, 1:], run)
                chosen = self._drawn(unit, classes, targets, sequences, run)
            scale = view.n_units / max(int(chosen.sum()), 1)
            tensors[classes_key(unit.name)] = torch.from_numpy(np.where(chosen, classes, IGNORE))
            tensors[scale_key(unit.name)] = torch.full((view.n_rows,), scale)
        if not has_main:
            tensors.pop("targets")
        return replace(view, tensors=tensors, token_fields=view.token_fields & tensors.keys())

    def _drawn(self, unit: _Unit, classes: IntArray, targets: IntArray, sequences: Sequences, run: Run) -> BoolArray:
        """Which next tokens of a causal model have their class predicted, as many of each class as of masked ones."""
        special = np.isin(targets, [*run.tokenizer.special_ids, IGNORE])
        draws = [
            run.rng("places", unit.name, sequences.stream, sequences.step, number).random(classes.shape[1])
            for number in sequences.ids.tolist()
        ]
        return np.asarray((np.stack(draws) < self._rates(classes)) & ~special)

    def _classes(self, unit: _Unit, sequences: Sequences, tags: IntArray, run: Run) -> IntArray:
        """The class of each place [R, T]; the control takes each row's from other places of the row."""
        classes = unit.of_tag[tags]
        if self.settings.control != "shuffled":
            return classes
        return np.stack(
            [
                run.rng("shuffled", unit.name, sequences.stream, sequences.step, number).permutation(row)
                for number, row in zip(sequences.ids.tolist(), classes, strict=True)
            ]
        )

    def _rates(self, classes: IntArray) -> Any:
        return np.where(classes > 0, self.settings.inside, self.settings.outside)

    def _plan_of(self, run: Run, *, own: bool) -> dict[str, Any]:
        """What the log says of the whole: spans in steps, and how many forwards a step has on average."""
        steps = run.config.training.steps
        spans = {stage.name: [stage.steps(steps).start, stage.steps(steps).stop] for stage in self.stages_of_run}
        main = self.table.main_steps(steps)
        forwards = len(main) + sum(stop - start for start, stop in spans.values()) if own else steps
        return {
            "stages": spans,
            "tokens": [main.start, main.stop],
            "forwards_per_step": forwards / steps,
            "steps_of_equal_compute": forwards,
        }


@dataclass(frozen=True, slots=True)
class _Unit:
    """A stage with the number of each part of speech among its classes, 0 for all others."""

    stage: Stage
    of_tag: IntArray

    @property
    def name(self) -> str:
        return self.stage.name
