"""Suites of model directories: Hugging Face revisions as folders, a cache of the Hub, or one model by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from picolm.analysis.source import Snapshot, Source
from picolm.analysis.sources.directory import open_directory
from picolm.analysis.sources.store import holds_weights
from picolm.errors import PicoLMError
from picolm.model.huggingface import LIVE

_STEP = re.compile(r"(?:step|checkpoint|iter)[-_]?(\d+)", re.IGNORECASE)


class SuiteSource(Source):
    """Model directories by step."""

    def __init__(self, path: Path, kind: str, directories: Mapping[int, Path], notes: tuple[str, ...] = ()) -> None:
        """Take the directories; the newest one that can be opened says what the model is.

        Args:
            path: what was asked for.
            kind: what it is.
            directories: by step.
            notes: what was left out.

        Raises:
            PicoLMError: none of them can be opened.
        """
        self.path, self.kind, self.notes = path, kind, notes
        self._directories = dict(sorted(directories.items()))
        self.steps = tuple(self._directories)
        self.geometry = self._newest().geometry

    @property
    def tokenizer(self) -> Path | None:
        """As `Source.tokenizer`; one beside the folders serves all of them."""
        files = [place / "tokenizer.json" for place in (self._directories[self.steps[-1]], self.path)]
        return next((file for file in files if file.is_file()), None)

    def _newest(self) -> Snapshot:
        failures = []
        for step in reversed(self.steps):
            try:
                return self._snapshot(step)
            except PicoLMError as error:
                failures.append(error)
        raise failures[0]

    def _snapshot(self, step: int) -> Snapshot:
        return open_directory(self._directories[step], step)


def step_in(name: str) -> int | None:
    """The step that a folder's name tells: `step1000`, `step-00001000`, `step1000-tokens4B`, `checkpoint-500`."""
    match = _STEP.search(name)
    return None if match is None else int(match[1])


def is_model(directory: Path) -> bool:
    """Whether a directory says what model it holds."""
    return (directory / "config.json").is_file() or (directory / LIVE).is_file()


def find_revisions(path: Path) -> tuple[dict[int, Path], tuple[str, ...]]:
    """Find the folders of a suite: of `path` itself, or of the revisions of a cache of the Hub.

    Returns:
        The directories by step, and a sentence for each that was left out.

    Raises:
        PicoLMError: two folders are of the same step.
    """
    found: dict[int, Path] = {}
    notes = []
    for name, folder in sorted(_folders(path)):
        step = step_in(name)
        if step is None and is_model(folder):
            notes.append(f"{folder} is left out: its name '{name}' tells no step")
        if step is None:
            continue
        if not is_model(folder) or not ((folder / LIVE).is_file() or holds_weights(folder)):
            notes.append(f"{folder} is left out: it is not a whole model, with a configuration and weights")
        elif step in found:
            raise PicoLMError(f"{found[step]} and {folder} are both of step {step}: take one of them away")
        else:
            found[step] = folder
    return found, tuple(notes)


def _folders(path: Path) -> list[tuple[str, Path]]:
    """Names and folders of revisions."""
    if (path / "refs").is_dir() and (path / "snapshots").is_dir():
        references = [file for file in (path / "refs").iterdir() if file.is_file()]
        return [(file.name, path / "snapshots" / file.read_text(encoding="utf-8").strip()) for file in references]
    return [(folder.name, folder) for folder in path.iterdir() if folder.is_dir()]
