"""The run directory: where everything of a run stands, and how it is found again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from picolm.errors import PicoLMError, nearest
from picolm.runs.durable import committed_directory, first_free, write_json
from picolm.runs.log import read_log
from picolm.runs.manifest import SUPERSEDED, DamagedManifestError, check_format, read_manifest, verify
from picolm.runs.software import picolm_version

RUN_FILE = "run.json"
FORMAT = 1
KIND = "picolm-run"
_STEP = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """A directory that holds the model, and what a resume needs, after some step.

    Attributes:
        step: optimizer steps taken.
        path: the directory.
    """

    step: int
    path: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The manifest, read when first asked for."""
        return read_manifest(self.path)

    @property
    def size_bytes(self) -> int:
        """Size of all files together, by the manifest."""
        return sum(entry["bytes"] for entry in self.manifest["files"].values())

    def damaged(self, *, hashes: bool = True) -> list[str]:
        """Compare every file with the manifest, or only names and sizes; one sentence for each damage."""
        return verify(self.path, hashes=hashes)

    @property
    def has_state(self) -> bool:
        """Whether a run can resume from it, by the manifest."""
        return any(name.startswith("state/") for name in self.manifest["files"])

    @property
    def superseded(self) -> list[str]:
        """Folders that were removed because newer ones took their place."""
        return [str(folder) for folder in self.manifest.get(SUPERSEDED, [])]


@dataclass(frozen=True)
class RunDirectory:
    """A run on disk. Make one with `create` or `open`.

    Attributes:
        path: the directory.
    """

    path: Path

    @classmethod
    def create(
        cls, path: Path, identity: Mapping[str, Any], fill: Callable[[Path], None] = lambda directory: None
    ) -> RunDirectory:
        """Start a run: the directory appears together with its `run.json`, which is never written again.

        Args:
            path: where; missing, or an empty directory.
            identity: JSON values that say what the run is.
            fill: writes what the run begins with into the directory, before it appears.

        Raises:
            PicoLMError: the directory is there already, or cannot be written.
        """
        own = {"format": FORMAT, "kind": KIND, "picolm": picolm_version()}
        assert not own.keys() & identity.keys(), "these keys are the run directory's own"
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise PicoLMError(f"run {path} exists; choose another --name")
        with committed_directory(path) as directory:
            fill(directory)
            write_json(directory / RUN_FILE, {**own, **identity})
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open a run that is there.

        Raises:
            PicoLMError: there is no such run, it is not a run, or a newer PicoLM wrote it.
        """
        if not path.exists():
            names = [file.parent.name for file in path.parent.glob(f"*/{RUN_FILE}")]
            raise PicoLMError(f"there is no run {path}{nearest(path.name, names)}")
        run = cls(path)
        if not (path / RUN_FILE).is_file():
            raise PicoLMError(f"{path} is not a run: it has no {RUN_FILE}")
        check_format(path / RUN_FILE, run.identity, FORMAT)
        if run.identity.get("kind") != KIND or run.identity.get("format") != FORMAT:
            raise PicoLMError(
                f"{path / RUN_FILE} does not describe a run: it must say kind {KIND!r} and format {FORMAT}"
            )
        return run

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.path.resolve().name

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The content of `run.json`; not to be changed."""
        file = self.path / RUN_FILE
        try:
            content = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise PicoLMError(f"{file} cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise PicoLMError(f"{file} does not describe a run: it must be a JSON object")
        return content

    @property
    def log_path(self) -> Path:
        """`log.jsonl`: what two runs of the same identity have in common."""
        return self.path / "log.jsonl"

    @property
    def timings_path(self) -> Path:
        """`timings.jsonl`: wall-clock figures."""
        return self.path / "timings.jsonl"

    @property
    def attempts_path(self) -> Path:
        """`attempts.jsonl`: one line per start."""
        return self.path / "attempts.jsonl"

    @property
    def log(self) -> list[dict[str, Any]]:
        """All lines of the log, read anew each time."""
        return read_log(self.log_path)

    @property
    def timings(self) -> list[dict[str, Any]]:
        """All lines of the timings, read anew each time."""
        return read_log(self.timings_path)

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """All starts of the run, read anew each time."""
        return read_log(self.attempts_path)

    def checkpoint_path(self, step: int) -> Path:
        """Return where the checkpoint after `step` steps stands, whether it is there or not."""
        return self.path / "checkpoints" / f"step-{step:08d}"

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints whose manifest can be read, by step; their files are not looked at.

        Raises:
            PicoLMError: a newer PicoLM wrote one of them.
        """
        return [checkpoint for checkpoint in self.candidates() if _has_manifest(checkpoint)]

    def latest_checkpoint(self) -> tuple[Checkpoint | None, list[str]]:
        """Find the newest whole checkpoint; every byte of those that are looked at is read.

        Returns:
            The checkpoint, None when there is none; and one sentence for each damage of newer ones.

        Raises:
            PicoLMError: a newer PicoLM wrote one of them.
        """
        warnings: list[str] = []
        for checkpoint in reversed(self.candidates()):
            damage = checkpoint.damaged()
            if not damage:
                return checkpoint, warnings
            warnings += damage
        return None, warnings

    def candidates(self) -> list[Checkpoint]:
        """Everything that bears the name of a checkpoint, by step, damaged or not."""
        directory = self.path / "checkpoints"
        paths = [path for path in directory.iterdir() if path.is_dir()] if directory.is_dir() else []
        found = [Checkpoint(int(match[1]), path) for path in paths if (match := _STEP.fullmatch(path.name))]
        # `step-000001000` would be a second spelling of step 1000.
        return sorted((item for item in found if item.path.name == f"step-{item.step:08d}"), key=lambda item: item.step)


def free_name(runs_dir: Path, stem: str) -> str:
    """Return the first of `stem`, `stem-2`, `stem-3`, ... that does not exist in a directory."""
    return first_free({path.name for path in runs_dir.iterdir()} if runs_dir.is_dir() else set(), stem)


def _has_manifest(checkpoint: Checkpoint) -> bool:
    try:
        return bool(checkpoint.manifest)
    except DamagedManifestError:
        return False
