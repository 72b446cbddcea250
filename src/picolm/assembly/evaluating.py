"""Asking models what they know: which tasks, under which conditions, and what is done already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from picolm.assembly.models import open_model
from picolm.assembly.targets import Steps, TargetModel, resolve
from picolm.errors import PicoLMError
from picolm.evaluation.progress import Meter, Progress
from picolm.evaluation.scoring import Engine, Precision
from picolm.evaluation.task import Figure, Found, Material, Subject, Task, parse_task
from picolm.runs.attempt import describe_attempt
from picolm.runs.evaluations import FOLDER, Evaluated, Part, shared_files
from picolm.training.numerics import choose_device


@dataclass(frozen=True, slots=True)
class Conditions:
    """How models are read.

    Attributes:
        precision: `fp32`, or `bf16` for matrix products in bfloat16.
        batch_tokens: positions that are read at once; None: what suits the device.
        device: `auto`, `cpu`, `cuda` or `mps`.
        trusted: interventions outside of PicoLM whose code may run, as in `picolm.open_model`.
        trust: as in `picolm.open_model`.
    """

    precision: Precision = "fp32"
    batch_tokens: int | None = None
    device: str = "auto"
    trusted: Sequence[str] = ()
    trust: bool = False


class Examination:
    """Tasks that have read their data for the models of one target, and the place where what they find is kept.

    Args:
        tasks: what is asked.
        material: what stands beside the models.
        folder: `eval/`; None: nothing is kept.
        conditions: how models are read.

    Raises:
        PicoLMError: there is no task, two have one name, or the data of one are not what they must be.
    """

    def __init__(
        self, tasks: Sequence[Task], material: Material, folder: Path | None, conditions: Conditions = Conditions()
    ) -> None:
        _refuse_twins(tasks)
        # Before any data are read: a device that is not there is a mistake that takes no time to find.
        choose_device(conditions.device, "--device")
        self.tasks, self.folder, self.conditions = tasks, folder, conditions
        self._identities: list[Mapping[str, Any]] = []
        for task in tasks:
            identity = {"label": task.label, **task.prepare(material), "precision": conditions.precision}
            self._identities.append(identity)
            if folder is not None:
                task.recall(shared_files(Part(folder, None, task.kind, identity)))
        self._made = _made()

    def of(self, model: TargetModel, *, again: bool = False, progress: Progress | None = None) -> list[Evaluated]:
        """Ask one model everything that it was not asked before.

        Args:
            model: of the target.
            again: whether what is there already is measured again.
            progress: told how far it is.
        """
        opened = _Opened(model, self.conditions)
        rows: list[Evaluated] = []
        for task, identity in zip(self.tasks, self._identities, strict=True):
            part = Part(self.folder or Path(), model.step, task.kind, identity)
            done = None if again or self.folder is None else part.rows(opened.hash)
            if done is None:
                found = _measured(opened, task, progress)
                done = [_row(model.step, task.label, figure) for figure in found.figures]
                if self.folder is not None:
                    part.write(done, {**_facts(opened, task), "made": self._made}, found.files, task.shared_files())
            rows += done
        return rows


def evaluate(
    target: Path | str,
    tasks: Sequence[str | Task],
    *,
    checkpoints: Steps = "last",
    out: Path | str | None = None,
    again: bool = False,
    precision: Precision = "fp32",
    batch_tokens: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    trusted: Sequence[str] = (),
    trust: bool = False,
) -> list[Evaluated]:
    """Ask models what they know.

    What is found is written to the run's `eval/`, a part for each checkpoint and task, as soon as it is complete; a
    part that is there already is read instead of measured again. Nothing else of the run is touched, so a run that is
    being trained can be evaluated.

    Args:
        target: a run, a checkpoint, or a model directory.
        tasks: each as `pairs:blimp.jsonl.gz`, `perplexity` or `perplexity:corpus.jsonl form=paloma`.
        checkpoints: of a run: `last`, `all`, or those after these steps.
        out: where to write instead; a target that is no run has no place of its own, so nothing is written without.
        again: whether what is there already is measured again.
        precision: `fp32`, or `bf16` for matrix products in bfloat16.
        batch_tokens: positions that are read at once; None: what suits the device.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: told (what, done, total).
        trusted: interventions outside of PicoLM whose code may run, as in `picolm.open_model`.
        trust: as in `picolm.open_model`.

    Returns:
        A row for each figure, checkpoint by checkpoint and task by task.

    Raises:
        PicoLMError: the target, a checkpoint or a task's data are not what they must be.
    """
    asked = [parse_task(task) if isinstance(task, str) else task for task in tasks]
    _refuse_twins(asked)
    found = resolve(Path(target), checkpoints, progress)
    folder = Path(out) if out is not None else None if found.run is None else found.run.path / FOLDER
    conditions = Conditions(precision, batch_tokens, device, trusted, trust)
    examination = Examination(asked, found.material(), folder, conditions)
    return [row for model in found.models for row in examination.of(model, again=again, progress=progress)]


class _Opened:
    """A model that is opened when a task first asks for it."""

    def __init__(self, model: TargetModel, conditions: Conditions) -> None:
        self.model, self._conditions = model, conditions

    @cached_property
    def hash(self) -> str:
        return self.model.hash()

    @cached_property
    def engine(self) -> Engine:
        asked = self._conditions
        model, _ = open_model(self.model.directory, trusted=asked.trusted, trust=asked.trust)
        device = choose_device(asked.device, "--device")
        # Weights that were stored in less are computed with in float32, which is exact.
        if any(parameter.dtype.itemsize < 4 for parameter in model.parameters()):
            model = model.float()
        return Engine(model.to(device), device, asked.precision, asked.batch_tokens)


def _row(step: int | None, label: str, figure: Figure) -> Evaluated:
    """A figure in the very types that it is read back with: counts are whole numbers in memory, and floats on disk."""
    se = None if figure.se is None else float(figure.se)
    return Evaluated(step, label, figure.subset, figure.metric, float(figure.value), se, int(figure.n))


def _measured(opened: _Opened, task: Task, progress: Progress | None) -> Found:
    meter = Meter(progress, f"{opened.model.name}, {task.label}")
    return task.measure(Subject(opened.engine, meter))


def _facts(opened: _Opened, task: Task) -> dict[str, Any]:
    directory = str(opened.model.directory.absolute())
    return {"model": opened.hash, "model_directory": directory, "sources": task.sources()}


def _made() -> dict[str, Any]:
    """When, and by which code."""
    facts = describe_attempt(None)
    return {key: facts[key] for key in ("time", "picolm", "commit", "diff_sha256", "python", "packages", "cpu")}


def _refuse_twins(tasks: Sequence[Task]) -> None:
    if not tasks:
        raise PicoLMError("name at least one task, for example pairs:blimp.jsonl.gz or perplexity")
    labels = [task.label for task in tasks]
    for label in labels:
        if labels.count(label) > 1:
            raise PicoLMError(f"two tasks are called '{label}': their rows could not be told apart")
