"""Evaluation while a model trains: a checkpoint is asked as soon as it stands on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from picolm.assembly.attempt import MakeEvaluation
from picolm.assembly.evaluating import Conditions, Examination
from picolm.assembly.ingredients import Ingredients
from picolm.assembly.targets import TargetModel
from picolm.data.split import Split
from picolm.evaluation.task import Material, parse_task
from picolm.interventions.loading import Loaded
from picolm.model.initialization import build_model
from picolm.runs.directory import RunDirectory
from picolm.runs.evaluations import FOLDER, Evaluated
from picolm.seams import Observer
from picolm.training.interruption import Interruption


class ScheduledEvaluation:
    """Asks the checkpoints of a run that is at work; what it writes is what `picolm evaluate` would write later.

    Args:
        examination: what is asked.
        run: the run.
        interruption: a signal ends an evaluation; it is made again when the run is resumed.
        observers: told how far it is.
    """

    def __init__(
        self, examination: Examination, run: RunDirectory, interruption: Interruption, observers: Sequence[Observer]
    ) -> None:
        self._run, self._examination, self._interruption, self._observers = run, examination, interruption, observers

    def __call__(self, step: int) -> Iterator[Mapping[str, Any]]:
        """Ask the checkpoint of a step; give a line for the log for each task."""
        if self._interruption.signal is not None:
            return
        model = TargetModel(self._run.checkpoint_path(step), step)
        try:
            rows = self._examination.of(model, progress=self._tell)
        except _InterruptedError:
            return
        yield from lines_of(rows)

    def _tell(self, phase: str, done: int, total: int) -> None:
        if self._interruption.signal is not None:
            raise _InterruptedError
        for observer in self._observers:
            observer.evaluating(phase, done, total)


def scheduled_evaluation(path: Path, ingredients: Ingredients, loaded: Sequence[Loaded]) -> MakeEvaluation | None:
    """Read what a run is to be asked while it goes on; None where that is nothing.

    Args:
        path: the run, which need not be there yet.
        ingredients: its data and configuration, which names the tasks.
        loaded: its interventions: their code runs already.

    Raises:
        PicoLMError: a task or its data are not what they must be.
    """
    asked = ingredients.config.evaluation
    if not asked.tasks:
        return None
    device, trusted = ingredients.config.training.device, [item.use for item in loaded]
    tasks = [parse_task(words) for words in asked.tasks]
    conditions = Conditions(asked.precision, device=device, trusted=trusted)
    examination = Examination(tasks, _material(path, ingredients), path / FOLDER, conditions)
    return partial(ScheduledEvaluation, examination)


class _InterruptedError(Exception):
    """A signal came."""


def lines_of(rows: Sequence[Evaluated]) -> Iterator[dict[str, Any]]:
    """What the log says of an evaluation: the figures over everything, task by task."""
    for task in dict.fromkeys(row.task for row in rows):
        figures = {row.metric: row.value for row in rows if row.task == task and row.subset == "all"}
        yield {"task": task, "figures": figures}


def _material(path: Path, ingredients: Ingredients) -> Material:
    """What stands beside the models of a run that has no checkpoint yet."""
    config, data = ingredients.config, ingredients.data

    def held_out() -> Split | None:
        split = data.split("validation")
        return split if split.n_documents else None

    return Material(
        name=str(path),
        tokenizer=ingredients.tokenizer,
        bos=ingredients.tokenizer.separator_id,
        window=config.model.max_length,
        is_causal=config.model.attention == "causal",
        training=lambda: data.split("train"),
        held_out=held_out,
        untrained=partial(build_model, config.model, config.seeds.init),
        untrained_seed=config.seeds.init,
    )
