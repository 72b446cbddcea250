"""PicoLM runs as sources: their checkpoints, captures and probes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from picolm.analysis.geometry import geometry_of
from picolm.analysis.probe import Probe, text_positions
from picolm.analysis.source import Capture, Kind, Snapshot, Source, require_names
from picolm.analysis.sources.directory import open_directory
from picolm.analysis.sources.own import by_head
from picolm.config import schema
from picolm.errors import PicoLMError, nearest
from picolm.model.files import load_tensors, opened
from picolm.runs.captures import capture_path, probe_path
from picolm.runs.directory import RunDirectory
from picolm.runs.manifest import MANIFEST, read_manifest, verify

_OPTIMIZER, _TRAIN = "optimizer", "train"


class RunSource(Source):
    """A run, or one of its checkpoints."""

    kind = "PicoLM run"

    def __init__(self, path: Path, *, only: int | None = None) -> None:
        """Open a run: what is damaged, as far as names and sizes of files tell, is left out with a note.

        Args:
            path: the run directory.
            only: the step that alone counts; None: all.

        Raises:
            PicoLMError: it is no run, or it has neither a checkpoint nor a capture that is whole.
        """
        self.path, self.run = path, RunDirectory.open(path)
        candidates = {item.step: item.path for item in self.run.candidates() if only in (None, item.step)}
        captures = {step: capture_path(path, step) for step in _capture_steps(path) if only in (None, step)}
        damage = {
            folder: found[0] for folder in (*candidates.values(), *captures.values()) if (found := _damage(folder))
        }
        self._checkpoints = {step: folder for step, folder in candidates.items() if folder not in damage}
        self.steps = tuple(self._checkpoints)
        self.capture_steps = tuple(step for step, folder in captures.items() if folder not in damage)
        self.notes = tuple(f"{folder} is left out: {sentence}" for folder, sentence in damage.items())
        if not self.steps and not self.capture_steps:
            why = (
                f"has nothing whole: {next(iter(damage.values()))}"
                if damage
                else "has neither a checkpoint nor a capture yet"
            )
            raise PicoLMError(f"run {path} {why}")
        self.geometry = geometry_of(self.config, "picolm")

    @cached_property
    def config(self) -> schema.Model:
        """The model's configuration."""
        try:
            return schema.Model.model_validate(self.run.identity["config"]["model"])
        except (KeyError, TypeError, ValidationError):
            raise PicoLMError(f"{self.path}: run.json does not say what model the run trains") from None

    def probe(self, name: str) -> Probe | None:
        """As `Source.probe`: of a causal model with its targets, of a bidirectional one uncorrupted and without.

        Raises:
            PicoLMError: there is no such probe, or its file is damaged.
        """
        path = probe_path(self.path, name)
        if not path.is_file():
            names = [file.stem for file in path.parent.glob("*.safetensors")] if path.parent.is_dir() else []
            raise PicoLMError(f"run {self.path} has no probe '{name}'{nearest(name, names)}")
        rows = load_tensors(path)
        if not {"tokens", "valid", "documents"} <= rows.keys():
            raise PicoLMError(f"{path} does not hold the rows of a probe")
        borders = self.run.identity["config"].get("data", {}).get("document_borders", False)
        # Each position works for the document of the token that it may predict.
        documents = rows["documents"][:, 1:].contiguous() if borders else None
        probe = Probe.causal(rows["tokens"], rows["valid"])
        return Probe(probe.input_ids, probe.targets if self.geometry.causal else None, probe.mask, documents)

    @property
    def tokenizer(self) -> Path | None:
        """As `Source.tokenizer`."""
        file = self._checkpoints[self.steps[-1]] / "tokenizer.json" if self.steps else None
        return file if file is not None and file.is_file() else None

    def _snapshot(self, step: int) -> Snapshot:
        return open_directory(self._checkpoints[step], step)

    def _capture(self, step: int) -> Capture:
        return RunCapture(self.path, step)


class RunCapture(Capture):
    """One capture of a run."""

    def __init__(self, run: Path, step: int) -> None:
        """Open it.

        Raises:
            PicoLMError: its manifest cannot be read.
        """
        self.path, self.step, self._run = capture_path(run, step), step, run
        self._manifest = read_manifest(self.path)

    @property
    def probes(self) -> tuple[str, ...]:
        """As `Capture.probes`; `train` is the batch of the last update."""
        stems = sorted(Path(name).stem for name in self._manifest["files"])
        return tuple(stem for stem in stems if stem != _OPTIMIZER)

    def names(self, kind: Kind, probe: str | None) -> tuple[str, ...]:
        """As `Capture.names`."""
        return tuple(self._keys(kind, probe))

    def read(self, kind: Kind, names: Iterable[str], probe: str | None) -> dict[str, Tensor]:
        """As `Capture.read`."""
        keys = self._keys(kind, probe)
        wanted = require_names(names, keys, self.path, kind.replace("_", " "))
        if not wanted:
            return {}
        with opened(self._file(kind, probe)) as file:
            found = {name: file.get_tensor(keys[name]) for name in wanted}
        if kind != "activation":
            return found
        return {name: by_head(tensor, 1 if name.endswith("_norm") else 2) for name, tensor in found.items()}

    def real(self, probe: str) -> Tensor:
        """As `Capture.real`."""
        return text_positions(*self._lengths(probe), self._manifest["positions"])

    def tokens(self, probe: str) -> Tensor | None:
        """As `Capture.tokens`: of the training batch; the rows of other probes stand once in the run."""
        if _base(probe) != _TRAIN:
            return None
        with opened(self._file("activation", probe)) as file:
            tokens: Tensor = file.get_tensor("batch/input_ids")
        return tokens.to(torch.int64)

    def _keys(self, kind: Kind, probe: str | None) -> Mapping[str, str]:
        """Canonical names, and the keys of the file."""
        path = self._file(kind, probe)
        if not path.is_file():
            return {}
        with opened(path) as file:
            keys = [key for key in file.keys() if key.startswith(f"{kind}/")]  # noqa: SIM118
        return {key.removeprefix(f"{kind}/").removesuffix(".weight"): key for key in keys}

    def _file(self, kind: Kind, probe: str | None) -> Path:
        if kind == "update":
            return self.path / f"{_OPTIMIZER}.safetensors"
        if probe not in self.probes:
            raise PicoLMError(f"{self.path} has no probe '{probe}'{nearest(str(probe), self.probes)}")
        return self.path / f"{probe}.safetensors"

    def _lengths(self, probe: str) -> tuple[Tensor, int]:
        """How many input positions of each row are text [R], and how many there are."""
        tokens = self.tokens(probe)
        if tokens is not None:
            return torch.full((len(tokens),), tokens.shape[1]), tokens.shape[1]
        rows = load_tensors(probe_path(self._run, _base(probe)))
        length = rows["tokens"].shape[1] - 1
        return rows["valid"].clamp(max=length), length


def _base(probe: str) -> str:
    """`held_out.masked` is a view of the rows of `held_out`."""
    return probe.partition(".")[0]


def _damage(folder: Path) -> list[str]:
    # Sizes only: to read every byte of every checkpoint is what sources are there to avoid.
    return verify(folder, hashes=False)


def _capture_steps(run: Path) -> list[int]:
    found: list[int] = []
    for path in (run / "captures").glob("step-*"):
        number: Any = path.name.removeprefix("step-")
        if number.isdecimal() and (path / MANIFEST).is_file() and capture_path(run, int(number)).name == path.name:
            found.append(int(number))
    return sorted(found)
