"""Runs with interventions: the hard stubs of `stubs/`, the useful ones of PicoLM, and many at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import picolm
from picolm.assembly.attempt import active_of
from picolm.assembly.ingredients import Ingredients, order, prepare
from picolm.config import schema
from picolm.interventions.loading import Trust, load_interventions
from picolm.runs.directory import RunDirectory
from picolm.seams import Plan
from picolm.training.trainer import Trainer

STUBS = Path(__file__).parent / "stubs"
Use = dict[str, object]


def stub(use: str, **settings: object) -> Use:
    """A use of `file:Class` among the stubs."""
    file, _, name = use.partition(":")
    return {"use": f"{STUBS / file}.py:{name}", **settings}


@dataclass(frozen=True)
class Case:
    """A list of interventions, and what a run with them needs."""

    uses: tuple[Use, ...]
    events: frozenset[str]
    """What they record."""
    overrides: Mapping[str, object] = field(default_factory=dict)


def case(*uses: Use, events: Sequence[str], **overrides: object) -> Case:
    return Case(uses, frozenset(events), overrides)


MASKED = {"objective": {"kind": "masked", "rate": 0.3}, "model.attention": "bidirectional"}
TAGGED = {
    "data.sources": ["embedded:english?documents=60"],
    "data.sequence_length": 16,
    "tokenizer.vocab_size": 400,
}

PROJECTION = case(stub("projection:Projection"), events=["projected"])
ADAPTERS = case(stub("adapters:Adapters"), events=["on", "off", "merged"])
INNER_LOOP = case(stub("inner_loop:InnerLoop"), events=["episodes"])
TWO_VIEWS = Case((stub("two_views:TwoViews"),), frozenset(["head"]), MASKED)
POOL = case(stub("pool:Pool"), events=["scored"])
BATCH_SIZE = case(stub("batch_size:BatchSize"), events=["resized"])
METADATA = case(stub("metadata:Metadata"), events=["blocks"])
HYBRID = case(stub("hybrid:Hybrid"), events=["shown"])
FREEZE = case({"use": "freeze", "parameters": ["layers.0.mlp"], "until": 4}, events=["frozen", "thawed"])
NOISE = case({"use": "gradient_noise", "eta": 1e-4, "start": 2, "stop": 7}, events=["noise"])
RATES = case({"use": "rate_factor", "factor": 0.25}, events=[])
SMOOTHING = case({"use": "label_smoothing", "alpha": 0.2}, events=["smoothing"])
# Windows of four tokens: in this corpus longer ones hold nearly every word.
EPISODES: Use = {"use": "meta_pretraining", "ways": 2, "support": 2, "query": 2, "tasks": 3, "inner_steps": 2,
                 "window": 4, "most": 1.0, "pool": 200, "types": "all"}  # fmt: skip
META = case(EPISODES, events=["episodes", "spent"])
META_JOINT = case(
    {**EPISODES, "mixing": "joint", "algorithm": "fomaml-all", "renew": 3, "start": 2, "stop": 8},
    events=["episodes", "spent"],
)
META_EXACT = case(
    {**EPISODES, "mixing": "bernoulli", "algorithm": "anil-exact", "head": "random", "hidden": [6]},
    events=["episodes", "spent"],
)
ALL = [PROJECTION, ADAPTERS, INNER_LOOP, POOL, BATCH_SIZE, METADATA, FREEZE, NOISE, SMOOTHING, RATES]
CASES: dict[str, Case] = {
    "identity": case(stub("identity:Identity"), events=[]),
    "projection": PROJECTION,
    "adapters": ADAPTERS,
    "inner_loop": INNER_LOOP,
    "two_views": TWO_VIEWS,
    "pool": POOL,
    "batch_size": BATCH_SIZE,
    "metadata": METADATA,
    "hybrid": HYBRID,
    "freeze": FREEZE,
    "gradient_noise": NOISE,
    "label_smoothing": SMOOTHING,
    "rate_factor": RATES,
    "vocabulary": Case(
        ({"use": "vocabulary_curriculum", "by": "pos_tags"},), frozenset(["opened"]), {**TAGGED, **MASKED}
    ),
    "rows": Case(({"use": "data_curriculum", "by": "model", "refresh": 4},), frozenset(["pool", "scored"])),
    "classes": Case(
        ({"use": "objective_curriculum", "table": "multitask_pos_nv_all_mlm"},),
        frozenset(["planned", "units"]),
        {**TAGGED, **MASKED},
    ),
    "classes_beside": Case(
        ({"use": "objective_curriculum", "table": "multitask_pos_nv_all_mlm"},), frozenset(["planned", "units"]), TAGGED
    ),
    "curricula": Case(
        (
            {"use": "data_curriculum", "by": "field", "field": "characters", "window": 0.5},
            {"use": "objective_curriculum", "table": "growing", "corruption": "shared"},
            {"use": "vocabulary_curriculum", "by": "pos_tags_and_ids"},
        ),
        frozenset(["pool", "planned", "units", "opened"]),
        {**TAGGED, **MASKED},
    ),
    "meta_pretraining": META,
    "meta_joint": META_JOINT,
    "meta_exact": META_EXACT,
    "together": Case(tuple(use for one in ALL for use in one.uses), frozenset().union(*(one.events for one in ALL))),
}


# These touch every seam; the others are for `make test-slow`.
QUICK = ("adapters", "two_views", "hybrid", "meta_pretraining", "together")
MARKED = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES]


@pytest.fixture(params=MARKED)
def each(request: pytest.FixtureRequest) -> Case:
    """Each of them in turn."""
    return CASES[request.param]


@pytest.fixture
def cases() -> dict[str, Case]:
    """All of them by name."""
    return CASES


class Dies(Exception):
    """What ends a process in these tests."""


class Laboratory:
    """Makes small runs with interventions, and reads them."""

    TAGGED, MASKED = TAGGED, MASKED

    def __init__(self, overrides: Mapping[str, object], directory: Path) -> None:
        self.overrides = {**overrides, "training.steps": 10}
        self.directory = directory

    def config(self, uses: Sequence[Use], **overrides: object) -> Any:
        return picolm.load_config(None, {**self.overrides, **overrides, "interventions": [dict(use) for use in uses]})

    def seen(self, use: Use, **overrides: object) -> Seen:
        """An intervention of PicoLM before the first step of a run."""
        return Seen(self, use, **overrides)

    def train(self, uses: Sequence[Use], name: str, **overrides: object) -> RunDirectory:
        config = self.config(uses, **overrides)
        return picolm.train(config, name=name, runs_dir=self.directory, trusted=[str(use["use"]) for use in uses])

    def stopped(self, uses: Sequence[Use], name: str, steps: Sequence[int], **overrides: object) -> RunDirectory:
        """The same, killed before each of some updates and resumed each time."""
        for step in steps:
            with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(Dies):
                dying_at(step, monkeypatch)
                if (self.directory / name).exists():
                    picolm.resume(self.directory / name, trust=True)
                else:
                    self.train(uses, name, **overrides)
        return picolm.resume(self.directory / name, trust=True)

    def contents(self, run: RunDirectory) -> dict[str, bytes]:
        """What two runs of one identity have in common: the log, and every file of every checkpoint."""
        files = [run.path / "log.jsonl", *(run.path / "checkpoints").rglob("*")]
        return {file.relative_to(run.path).as_posix(): file.read_bytes() for file in files if file.is_file()}

    def log(self, run: RunDirectory, event: str = "train") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
        return [line for line in lines if line["event"] == event]

    def trace(self, run: RunDirectory) -> list[dict[str, Any]]:
        """What interventions recorded, each with the step of its line."""
        lines = self.log(run)
        return [{"step": line["step"], **event} for line in lines for event in line.get("interventions", ())]

    def weights(self, run: RunDirectory, step: int = 10, file: str = "model.safetensors") -> dict[str, Any]:
        return load_file(run.checkpoint_path(step) / file)


def dying_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer.update

    def mortal(trainer: Trainer, number: int, views: Any) -> None:
        if number == step:
            raise Dies
        original(trainer, number, views)

    monkeypatch.setattr(Trainer, "update", mortal)


class Seen:
    """An intervention, the run that it sees, and what the run is made of, before the first step."""

    def __init__(self, lab: Any, use: dict[str, object], **overrides: object) -> None:
        self.ingredients: Ingredients = prepare(lab.config([use], **overrides))
        loaded = load_interventions([schema.Use.model_validate(use)], Trust())
        (active,), self.live = active_of(self.ingredients, loaded, None)
        self.intervention: Any = active.intervention
        self.run = active.run

    @property
    def steps(self) -> int:
        return self.ingredients.config.training.steps

    def plan(self) -> Plan:
        changed: Plan = self.intervention.plan(order(self.ingredients), self.run)
        return changed

    def views(self, rows: Sequence[int], step: int, *, measure: bool = False) -> tuple[tuple[Any, ...], Any]:
        """The views of some rows at a step, changed; and the rows."""
        sequences = self.run.sequences(np.array(rows), step)
        plain = self.ingredients.formulation.views(sequences, measure=measure)
        return self.intervention.views(plain, sequences, self.run, measure=measure), sequences

    def plain(self, rows: Sequence[int], step: int) -> Any:
        return self.ingredients.formulation.views(self.run.sequences(np.array(rows), step), measure=False)[0]


@pytest.fixture
def lab(small_run: dict[str, object], tmp_path: Path) -> Laboratory:
    """Where small runs are made."""
    return Laboratory(small_run, tmp_path)
