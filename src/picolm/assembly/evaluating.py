"""From a run or a model directory to rows: which models it has, what stands beside them, what is done already."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from picolm.assembly.ingredients import reopen
from picolm.assembly.models import model_directory, open_model
from picolm.config import schema
from picolm.data.prepared import TokenData
from picolm.data.split import Split
from picolm.errors import PicoLMError, to_standard_error
from picolm.evaluation.progress import Meter, Progress
from picolm.evaluation.scoring import Engine, Precision
from picolm.evaluation.task import Found, Material, Subject, Task, parse_task
from picolm.model.files import locate_tensors, read_json
from picolm.model.huggingface import LIVE, model_config
from picolm.model.initialization import build_model
from picolm.model.interface import LanguageModel
from picolm.runs.attempt import describe_attempt
from picolm.runs.digest import sha256_of_file, sha256_of_json
from picolm.runs.directory import RUN_FILE, Checkpoint, RunDirectory
from picolm.runs.evaluations import FOLDER, Evaluated, Part
from picolm.text.tokenizer import Tokenizer
from picolm.training.numerics import choose_device

Steps = Literal["all", "last"] | int | Sequence[int]
"""Which checkpoints of a run: all that are there, the newest, or those after so many steps."""


@dataclass(frozen=True, slots=True)
class _Model:
    """One model of a target: its directory and, where that is known, its step."""

    directory: Path
    step: int | None

    @property
    def name(self) -> str:
        return self.directory.name if self.step is None else f"step {self.step:,}"

    def hash(self) -> str:
        """SHA-256 over the weights' files."""
        files = sorted(set(locate_tensors(self.directory).values()))
        return sha256_of_json([sha256_of_file(file) for file in files])


@dataclass(frozen=True)
class _Target:
    """What is evaluated, and what stands beside it."""

    path: Path
    models: tuple[_Model, ...]
    run: RunDirectory | None
    progress: Progress | None = field(default=None, compare=False)

    @property
    def _first(self) -> Path:
        return self.models[0].directory

    @cached_property
    def config(self) -> schema.Model:
        """The models' configuration, with the initial values that the run had."""
        if self.run is not None:
            return schema.Model.model_validate(self.run.identity["config"]["model"])
        return model_config(read_json(self._first / "config.json"), origin=self._first / "config.json")

    def material(self) -> Material:
        """What tasks are handed."""
        tokenizer = Tokenizer.load(self._first / "tokenizer.json")
        seed = 0 if self.run is None else int(self.run.identity["seeds"]["init"])
        return Material(
            name=str(self.path),
            tokenizer=tokenizer,
            bos=self._bos(tokenizer),
            window=self.config.max_length,
            is_causal=self.config.attention == "causal",
            training=self._training,
            held_out=self._held_out,
            untrained=partial(self._untrained, seed),
            untrained_seed=seed,
        )

    def _bos(self, tokenizer: Tokenizer) -> int:
        """The token that the directory says begins a text; else the one that parts documents."""
        file = self._first / "config.json"
        named = read_json(file).get("bos_token_id") if file.is_file() else None
        assert self.config.vocab_size is not None
        is_id = isinstance(named, int) and 0 <= named < self.config.vocab_size
        return int(named) if is_id and named is not None else tokenizer.separator_id

    def _untrained(self, seed: int) -> LanguageModel:
        return build_model(self.config, seed)

    def _training(self) -> Split | None:
        # Counting words is not worth preparing a corpus anew.
        if self.run is None or not Path(self.run.identity["data"]["directory"]).is_dir():
            return None
        with suppress(PicoLMError):
            data = TokenData.open(self.run.identity["data"]["directory"], verify="sizes")
            return data.split("train") if data.fingerprint == self.run.identity["data"]["fingerprint"] else None
        return None

    def _held_out(self) -> Split | None:
        if self.run is None:
            return None
        split = reopen(self.run, self.progress).data.split("validation")
        return split if split.n_documents else None


def evaluate(
    target: Path | str,
    tasks: Sequence[str | Task],
    *,
    checkpoints: Steps = "last",
    out: Path | str | None = None,
    again: bool = False,
    precision: Precision = "fp32",
    batch_tokens: int | None = None,
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
    asked_of = _resolve(Path(target), checkpoints, progress)
    folder = Path(out) if out is not None else None if asked_of.run is None else asked_of.run.path / FOLDER
    material = asked_of.material()
    identities = [{**task.prepare(material), "precision": precision} for task in asked]
    rows: list[Evaluated] = []
    made = _made()
    for model in asked_of.models:
        opened = _Opened(model, precision, batch_tokens, trusted, trust)
        for task, identity in zip(asked, identities, strict=True):
            part = Part(folder or Path(), model.step, task.kind, {"label": task.label, **identity})
            done = None if again or folder is None else part.rows(opened.hash)
            if done is None:
                found = _measured(opened, task, progress)
                done = [Evaluated(model.step, task.label, *figure) for figure in found.figures]
                if folder is not None:
                    part.write(done, {**_facts(opened, task), "made": made}, found.files, task.shared_files())
            rows += done
    return rows


def open_engine(
    target: Path | str,
    *,
    precision: Precision = "fp32",
    batch_tokens: int | None = None,
    trusted: Sequence[str] = (),
    trust: bool = False,
) -> tuple[Engine, Material]:
    """Open one model to be asked, with what stands beside it; arguments as in `evaluate`.

    Args:
        target: a run (its newest checkpoint), a checkpoint or a model directory.
        precision: of matrix products.
        batch_tokens: positions that are read at once.
        trusted: interventions whose code may run.
        trust: as in `picolm.open_model`.
    """
    asked_of = _resolve(Path(target), "last", None)
    material = asked_of.material()
    return _Opened(asked_of.models[0], precision, batch_tokens, trusted, trust).engine, material


class _Opened:
    """A model that is opened when a task first asks for it."""

    def __init__(
        self, model: _Model, precision: Precision, batch_tokens: int | None, trusted: Sequence[str], trust: bool
    ) -> None:
        self.model, self._precision, self._batch_tokens = model, precision, batch_tokens
        self._open = partial(open_model, trusted=trusted, trust=trust)

    @cached_property
    def hash(self) -> str:
        return self.model.hash()

    @cached_property
    def engine(self) -> Engine:
        model, _ = self._open(self.model.directory)
        device = choose_device("auto")
        # Weights that were stored in less are computed with in float32, which is exact.
        if any(parameter.dtype.itemsize < 4 for parameter in model.parameters()):
            model = model.float()
        return Engine(model.to(device), device, self._precision, self._batch_tokens)


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


def _resolve(target: Path, checkpoints: Steps, progress: Progress | None) -> _Target:
    if (target / RUN_FILE).is_file() or not target.is_dir():
        run = RunDirectory.open(target)
        models = tuple(_Model(checkpoint.path, checkpoint.step) for checkpoint in _chosen(run, checkpoints))
        return _Target(target, models, run, progress)
    if checkpoints not in ("last", "all"):
        raise PicoLMError(f"{target} is no run: it has no checkpoints to choose from")
    directory = model_directory(target)
    home = directory.resolve().parent.parent
    if (home / RUN_FILE).is_file():
        run = RunDirectory.open(home)
        steps = [checkpoint.step for checkpoint in run.checkpoints if checkpoint.path.name == directory.resolve().name]
        if steps:
            return _Target(target, (_Model(directory, steps[0]),), run, progress)
    if (directory / LIVE).is_file():
        raise PicoLMError(f"{directory} has no twin in transformers and is opened within its run only, as a checkpoint")
    return _Target(target, (_Model(directory, None),), None, progress)


def _chosen(run: RunDirectory, wanted: Steps) -> list[Checkpoint]:
    if wanted == "last":
        newest, damage = run.latest_checkpoint()
        for sentence in damage:
            to_standard_error(sentence)
        if newest is None:
            raise PicoLMError(damage[0] if damage else f"run {run.path} has no checkpoint yet")
        return [newest]
    there = {checkpoint.step: checkpoint for checkpoint in run.checkpoints}
    if not there:
        raise PicoLMError(f"run {run.path} has no checkpoint yet")
    if wanted == "all":
        return [checkpoint for checkpoint in there.values() if not _damaged(checkpoint)]
    steps = [wanted] if isinstance(wanted, int) else [int(step) for step in wanted]
    for step in steps:
        if step not in there:
            steps_there = ", ".join(map(str, there))
            raise PicoLMError(f"run {run.path} has no checkpoint of step {step}; it has those of {steps_there}")
        if damage := there[step].damaged():
            raise PicoLMError(damage[0])
    return [there[step] for step in sorted(set(steps))]


def _damaged(checkpoint: Checkpoint) -> bool:
    damage = checkpoint.damaged()
    for sentence in damage:
        to_standard_error(f"{sentence}; step {checkpoint.step} is left out")
    return bool(damage)
