"""Experiments on disk without training: runs of a few lines each, as a trainer would have left them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from picolm.config.loading import build_config, config_hash
from picolm.experiments.design import Design, PlannedRun, base_of
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.reading import parse_plan
from picolm.runs.digest import sha256_of_json
from picolm.runs.directory import RunDirectory

STEPS = 100
SET = {"training.steps": STEPS, "validation.every": 25}
TOKENS_PER_STEP = 1000
FLOPS_PER_TOKEN = 2.0
PLAN: dict[str, Any] = {
    "experiment": 1,
    "claim": "Hotter is better.",
    "base": "demo",
    "set": SET,
    "arms": {"cool": {}, "hot": {"set": {"optimizer.learning_rate": 0.006}}},
    "seeds": 4,
    "predictions": [{"measure": {"validation": "loss"}, "direction": "lower", "smallest": 0.1, "primary": True}],
}

Curve = Mapping[int, float]


@dataclass
class Made:
    """What a run left.

    Attributes:
        validation: its validation losses by step.
        training: its training losses by step.
        until: the step at which it stopped.
        tokens: of a step.
        seconds: the lines of its clock, (step, seconds).
    """

    validation: Curve
    training: Curve = field(default_factory=lambda: {STEPS: 1.0})
    until: int = STEPS
    tokens: int = TOKENS_PER_STEP
    seconds: Sequence[tuple[int, float]] = ((STEPS, 10.0),)


def ending_at(loss: float) -> Made:
    """A run that falls from 5 to a loss."""
    return Made({0: 5.0, STEPS: loss})


def write_run(path: Path, config: Mapping[str, Any], made: Made, parent: Mapping[str, Any] | None = None) -> None:
    """Write a run directory; one that came to its last step has ended."""
    path.mkdir(parents=True)
    built = build_config(config)
    steps = built.training.steps
    identity = {
        "format": 1,
        "kind": "picolm-run",
        "config": config,
        "config_hash": config_hash(built),
        "parent": parent,
    }
    (path / "run.json").write_text(json.dumps(identity))
    log = [{"event": "validation", "step": step, "loss": loss} for step, loss in made.validation.items()]
    log += [
        {"event": "train", "step": step, "loss": loss, "gradient_norm": loss / 2, "tokens": step * made.tokens}
        for step, loss in made.training.items()
    ]
    _write_lines(path / "log.jsonl", sorted(log, key=lambda line: line["step"]))
    _write_lines(path / "timings.jsonl", [{"step": step, "seconds": seconds} for step, seconds in made.seconds])
    tokens = steps * made.tokens
    _write_lines(path / "attempts.jsonl", [{"forecast": {"flops": FLOPS_PER_TOKEN * tokens, "tokens": tokens}}])
    line = {"event": "ended", "step": steps} if made.until == steps else {"event": "started"}
    _write_lines(path / "ledger.jsonl", [{**line, "seal": sha256_of_json(["", line])}])


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    def spelled(value: object) -> object:
        return {"nan": "NaN", "inf": "Infinity"}.get(str(value), value) if isinstance(value, float) else value

    path.write_text("".join(json.dumps({key: spelled(item) for key, item in line.items()}) + "\n" for line in lines))


def design_of(**changes: Any) -> Design:
    """A design of the usual plan with changes."""
    plan = parse_plan(yaml.safe_dump({**PLAN, **changes}, sort_keys=False), origin="plan.yaml", name="plan")
    return Design(plan, base_of(plan, Path()))


def register(path: Path, design: Design, parent: Path | None = None) -> ExperimentFolder:
    """Keep a plan."""
    folder = ExperimentFolder.make(path)
    folder.register(design, "experiment: 1", parent)
    return folder


def make(
    path: Path, outcome: Callable[[PlannedRun], Made | None], design: Design | None = None, **changes: Any
) -> ExperimentFolder:
    """An experiment on disk.

    Args:
        path: of its folder.
        outcome: what each run of the comparison left; None: it did not begin.
        design: the plan with its base; None: the usual one.
        changes: of the usual plan.
    """
    design = design or design_of(**changes)
    folder = register(path, design)
    for run in design.comparison():
        made = outcome(run)
        if made is not None:
            write_run(folder.run_path(run.name), run.config.model_dump(mode="json"), made)
    return folder


def run_of(folder: ExperimentFolder, name: str) -> RunDirectory:
    """A run of an experiment."""
    return RunDirectory.open(folder.run_path(name))
