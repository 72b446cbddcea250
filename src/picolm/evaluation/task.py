"""What a task is: data and a small typed configuration, asked of a model, giving rows.

A task is written `KIND`, `KIND:PATH` or `KIND:PATH key=value ...`; the key `name` says how its rows are named. It meets
a target in two steps: `prepare`, once, with what stands beside all of the target's models (tokenizer, data, an
untrained twin), where it reads its data and says everything that will decide about its figures; then `measure`, for one
model after another. Several tasks share one pass over the checkpoints, so each model is opened once.
"""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import ValidationError

from picolm.config.loading import explain
from picolm.config.section import Section
from picolm.config.yaml12 import parse_yaml
from picolm.data.split import Split
from picolm.errors import PicoLMError, nearest
from picolm.evaluation.progress import Meter
from picolm.evaluation.scoring import Engine
from picolm.model.interface import LanguageModel
from picolm.text.tokenizer import Tokenizer

REGISTRY = {
    "choices": "picolm.evaluation.choices:MultipleChoice",
    "classification": "picolm.evaluation.classification:Classification",
    "generation": "picolm.evaluation.generation:Generation",
    "lexical": "picolm.evaluation.lexical:LexicalDecision",
    "ner": "picolm.evaluation.entities.ner:NamedEntities",
    "nominalization": "picolm.evaluation.nominalization:Nominalization",
    "pairs": "picolm.evaluation.pairs:MinimalPairs",
    "perplexity": "picolm.evaluation.perplexity:Perplexity",
    "tokens": "picolm.evaluation.tokens:Tokens",
    "words": "picolm.evaluation.words:Words",
}
"""Name -> `module:Class`. Strings only: what is not used is not loaded."""


class Figure(NamedTuple):
    """One value that a task found; with step and task it is a row of `eval/*.parquet`."""

    subset: str
    metric: str
    value: float
    se: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a task found of one model.

    Attributes:
        figures: values, each a row of `eval/*.parquet`.
        files: what is no row (tables of words, surprisals of tokens, texts), by the ending of its name, as in
            `words.parquet`; written beside the rows.
    """

    figures: Sequence[Figure]
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Material:
    """What stands beside all models of a target.

    Attributes:
        name: what errors call the target.
        tokenizer: of its models.
        bos: the token that begins a text.
        window: positions that its models were made for.
        is_causal: whether its models read from left to right.
        training: opens the training tokens of the target; gives None where there are none.
        held_out: opens its held-out documents, likewise.
        untrained: makes a model of the same configuration with initial values.
        untrained_seed: of those values.
    """

    name: str
    tokenizer: Tokenizer
    bos: int
    window: int
    is_causal: bool
    training: Callable[[], Split | None]
    held_out: Callable[[], Split | None]
    untrained: Callable[[], LanguageModel]
    untrained_seed: int


@dataclass(frozen=True, slots=True)
class Subject:
    """One model that is asked.

    Attributes:
        engine: the model, ready to be read.
        meter: told how far the task is.
    """

    engine: Engine
    meter: Meter = field(default_factory=Meter)


class Task(ABC):
    """What is asked of a model.

    Args:
        settings: the task's own.
        path: of its data; None: not given.
        label: how rows name it.
    """

    Settings: ClassVar[type[Section]]
    """Its configuration."""
    kind: ClassVar[str]
    """Its name in the registry."""

    def __init__(self, settings: Section, path: str | None, label: str) -> None:
        self.path, self.label = path, label

    @abstractmethod
    def prepare(self, material: Material) -> dict[str, Any]:
        """Read the data; called once for a target, before `measure`.

        Returns:
            JSON values: everything beside the model that decides about the figures.

        Raises:
            PicoLMError: the data are not what they must be.
        """

    @abstractmethod
    def measure(self, subject: Subject) -> Found:
        """Ask one model."""

    def shared_files(self) -> Mapping[str, bytes]:
        """What is the same for all models and is written once, such as the probe text; known after `measure`."""
        return {}

    def recall(self, shared: Mapping[str, bytes]) -> None:
        """Take up shared files that an earlier call left, after `prepare`; they were made from the same data."""
        return

    def sources(self) -> dict[str, str]:
        """Where the data were read from; it decides about nothing, and is recorded."""
        return {} if self.path is None else {"data": str(Path(self.path).absolute())}


def parse_task(words: str) -> Task:
    """Make a task of what was written.

    Args:
        words: `KIND`, `KIND:PATH` or `KIND:PATH key=value ...`, quoted as in a shell.

    Raises:
        PicoLMError: there is no such task, or a setting is not one of its.
    """
    try:
        begin, *changes = shlex.split(words)
    except ValueError as error:
        raise PicoLMError(f"--task '{words}' names no task: write KIND:PATH key=value ... ({error})") from None
    kind, _, path = begin.partition(":")
    if kind not in REGISTRY:
        raise PicoLMError(f"there is no task '{kind}'{nearest(kind, REGISTRY)}")
    module, _, class_name = REGISTRY[kind].partition(":")
    task: type[Task] = getattr(import_module(module), class_name)
    values = dict(_change(change, words) for change in changes)
    name = values.pop("name", None)
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise PicoLMError(f"--task {kind}: name={name} is no name: give a text, as in name=blimp")
    try:
        settings = task.Settings.model_validate(values)
    except ValidationError as error:
        raise PicoLMError(f"--task {kind}: {explain(error, task.Settings)}") from None
    return task(settings, path or None, name or _label(kind, path, settings))


def _change(change: str, words: str) -> tuple[str, Any]:
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise PicoLMError(f"--task '{words}': '{change}' is no key=value")
    return key, parse_yaml(value, origin=f"the value of '{change}'")


def _label(kind: str, path: str, settings: Section) -> str:
    """Name a task so that rows of other settings are other rows."""
    stem = Path(path).name.partition(".")[0] if path and "embedded:" not in path else path
    usual = type(settings)()
    changed = [f"{key}={_inline(value)}" for key, value in _values(settings).items() if value != getattr(usual, key)]
    return " ".join([f"{kind}:{stem}" if stem else kind, *changed])


def _values(settings: Section) -> Mapping[str, Any]:
    return {key: getattr(settings, key) for key in type(settings).model_fields}


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
