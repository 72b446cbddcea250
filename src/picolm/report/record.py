"""What the page shows of a run, read once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from picolm.report.series import Series
from picolm.runs.directory import Checkpoint, RunDirectory
from picolm.runs.evaluations import FOLDER, read_evaluations
from picolm.runs.lineage import past
from picolm.runs.tables import read_metrics
from picolm.runs.timings import total_seconds, typical_speed

METRICS_FOLDER = "metrics"
Line = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """A run's identity, lines and checkpoints.

    Attributes:
        name: of the directory.
        identity: the content of `run.json`.
        past: lines of the log from before a fork, of all ancestors.
        train: lines of training steps.
        validation: lines of validations.
        samples: generated texts.
        timings: wall-clock figures, one line per step, by step.
        attempts: starts of the run.
        evaluations: rows of `eval/`, by task and step.
        metrics: rows of `metrics/`, by step.
        checkpoints: by step.
    """

    name: str
    identity: Line
    past: list[Line]
    train: list[Line]
    validation: list[Line]
    samples: list[Line]
    timings: list[Line]
    attempts: list[Line]
    evaluations: list[Line]
    metrics: list[Line]
    checkpoints: list[Checkpoint]
    seconds: float | None

    @classmethod
    def read(cls, run: RunDirectory) -> Record:
        """Read everything that the page shows."""
        lines = _with_steps(run.log)
        timings = _with_steps(run.timings)
        by_step = {line["step"]: line for line in timings}
        return cls(
            name=run.name,
            identity=run.identity,
            past=_with_steps(past(run)),
            train=[line for line in lines if line.get("event") == "train"],
            validation=[line for line in lines if line.get("event") == "validation"],
            samples=[line for line in lines if line.get("event") == "sample"],
            # A resumed run measures the steps after its checkpoint a second time: the later figure counts.
            timings=[by_step[step] for step in sorted(by_step)],
            attempts=run.attempts,
            evaluations=read_evaluations(run.path / FOLDER).to_pylist(),
            metrics=read_metrics(run.path / METRICS_FOLDER).to_pylist(),
            checkpoints=run.checkpoints,
            seconds=total_seconds(timings),
        )

    @property
    def config(self) -> Line:
        """The resolved configuration; empty when the run does not say."""
        return table(self.identity, "config")

    @property
    def domains(self) -> list[str]:
        """Names of the validated domains, in the order of their first appearance."""
        return list(dict.fromkeys(name for line in self.validation for name in table(line, "domains")))

    @property
    def last_step(self) -> int | None:
        """The last step of which anything is known."""
        return max((line["step"] for line in (*self.train, *self.validation)), default=None)

    @property
    def final_train_loss(self) -> tuple[float, int] | None:
        """Mean loss over the last 2 % of the logged steps (at least 10), and how many these are."""
        values = Series.of(self.train, "loss").finite
        last = values[-max(10, len(values) // 50) :]
        return (fmean(last), len(last)) if last else None

    @property
    def tokens_per_second(self) -> float | None:
        """Median speed over the run."""
        return typical_speed(self.timings)


def table(value: object, *keys: str) -> Line:
    """Return the table under nested keys; an empty one when it is not there or is something else."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _with_steps(lines: Iterable[Line]) -> list[Line]:
    return [line for line in lines if type(line.get("step")) is int]
