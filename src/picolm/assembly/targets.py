"""What can be evaluated (checkpoints of a run, one checkpoint, any model directory), and what stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from picolm.assembly.ingredients import reopen
from picolm.assembly.models import model_directory
from picolm.config import schema
from picolm.data.prepared import TokenData
from picolm.data.split import Split
from picolm.errors import PicoLMError, to_standard_error
from picolm.evaluation.progress import Progress
from picolm.evaluation.task import Material
from picolm.model.files import locate_tensors, read_json
from picolm.model.huggingface import LIVE, model_config
from picolm.model.initialization import build_model
from picolm.model.interface import LanguageModel
from picolm.runs.digest import sha256_of_file, sha256_of_json
from picolm.runs.directory import RUN_FILE, Checkpoint, RunDirectory
from picolm.text.tokenizer import Tokenizer

Steps = Literal["all", "last"] | int | Sequence[int]
"""Which checkpoints of a run: all that are there, the newest, or those after so many steps."""


@dataclass(frozen=True, slots=True)
class TargetModel:
    """One model of a target: its directory and, where that is known, its step."""

    directory: Path
    step: int | None

    @property
    def name(self) -> str:
        """How progress calls it."""
        return self.directory.name if self.step is None else f"step {self.step:,}"

    def hash(self) -> str:
        """SHA-256 over the weights' files."""
        files = sorted(set(locate_tensors(self.directory).values()))
        return sha256_of_json([sha256_of_file(file) for file in files])


@dataclass(frozen=True)
class Target:
    """What is evaluated, and what stands beside it."""

    path: Path
    models: tuple[TargetModel, ...]
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


def resolve(target: Path, checkpoints: Steps, progress: Progress | None) -> Target:
    """Find the models of a target.

    Args:
        target: a run, a checkpoint, or a model directory.
        checkpoints: of a run.
        progress: told of data that are prepared again.

    Raises:
        PicoLMError: there is nothing of the kind, or a checkpoint is missing or damaged.
    """
    if (target / RUN_FILE).is_file() or not target.is_dir():
        run = RunDirectory.open(target)
        models = tuple(TargetModel(checkpoint.path, checkpoint.step) for checkpoint in _chosen(run, checkpoints))
        return Target(target, models, run, progress)
    if checkpoints not in ("last", "all"):
        raise PicoLMError(f"{target} is no run: it has no checkpoints to choose from")
    directory = model_directory(target)
    home = directory.resolve().parent.parent
    if (home / RUN_FILE).is_file():
        run = RunDirectory.open(home)
        steps = [checkpoint.step for checkpoint in run.checkpoints if checkpoint.path.name == directory.resolve().name]
        if steps:
            return Target(target, (TargetModel(directory, steps[0]),), run, progress)
    if (directory / LIVE).is_file():
        raise PicoLMError(f"{directory} has no twin in transformers and is opened within its run only, as a checkpoint")
    return Target(target, (TargetModel(directory, None),), None, progress)


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
