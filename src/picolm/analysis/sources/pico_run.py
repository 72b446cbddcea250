"""Run directories of the original pico-train: checkpoints, and what `learning_dynamics` holds of activations.

training_config.yaml
checkpoints/step_1000/config.json, model.safetensors (or pytorch_model.bin)
checkpoints/step_1000/fabric_state/checkpoint.pt
checkpoints/step_1000/learning_dynamics/train_activations.pt, train_gradients.pt, val_...pt
checkpoints/step_1000/learning_dynamics/train_data/data-00000-of-00001.arrow
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import yaml
from torch import Tensor

from picolm.analysis.geometry import Geometry
from picolm.analysis.naming import Slot
from picolm.analysis.source import Capture, Kind, Snapshot, Source, require_names
from picolm.analysis.sources.architectures import ARCHITECTURES, geometry_from, slots_of
from picolm.analysis.sources.archive import TorchFile, tensors_in
from picolm.analysis.sources.directory import open_directory
from picolm.analysis.sources.store import TorchStore, holds_weights
from picolm.analysis.sources.suite import step_in
from picolm.errors import PicoLMError, nearest
from picolm.model.files import read_json
from picolm.model.pico import MODEL_TYPE

TRAINING_CONFIG = "training_config.yaml"
_CHECKPOINTS, _DYNAMICS, _STATE = "checkpoints", "learning_dynamics", Path("fabric_state") / "checkpoint.pt"
_ONE_DEVICE, _MANY_DEVICES = "_forward_module.", "_forward_module.module."
_DEFAULT_BATCH = 8
"""Sequences of a forward of the capture, where the configuration says nothing."""


class PicoRunSource(Source):
    """A run of pico-train."""

    kind = "original Pico run"

    def __init__(self, path: Path) -> None:
        """Open a run; its checkpoints are looked at when they are asked for.

        Raises:
            PicoLMError: it has no checkpoint.
        """
        self.path = path
        # `latest`, a link to one of them, tells no step.
        folders = [folder for folder in (path / _CHECKPOINTS).iterdir() if folder.is_dir()]
        found = {step: folder for folder in folders if (step := step_in(folder.name)) is not None}
        self._folders = dict(sorted(found.items()))
        self.steps = tuple(step for step, folder in self._folders.items() if _has_weights(folder))
        self.capture_steps = tuple(step for step, folder in self._folders.items() if (folder / _DYNAMICS).is_dir())
        if not self.steps and not self.capture_steps:
            raise PicoLMError(f"{path / _CHECKPOINTS} has no checkpoint step_N with weights or {_DYNAMICS}")
        self.notes = tuple(
            f"{folder} is left out: it has neither weights nor {_DYNAMICS}"
            for step, folder in self._folders.items()
            if step not in (*self.steps, *self.capture_steps)
        )
        newest = self._folders[max(*self.steps, *self.capture_steps, -1)]
        self.geometry = geometry_from(self._values(newest), newest)

    @property
    def tokenizer(self) -> Path | None:
        """As `Source.tokenizer`."""
        files = [self._folders[step] / "tokenizer.json" for step in self.steps[-1:]]
        return next((file for file in files if file.is_file()), None)

    @cached_property
    def _training(self) -> Mapping[str, Any] | None:
        """`training_config.yaml`; None where there is none."""
        file = self.path / TRAINING_CONFIG
        if not file.is_file():
            return None
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise PicoLMError(f"cannot read '{file}': {error}") from None
        if not isinstance(content, Mapping):
            raise PicoLMError(f"'{file}' does not hold a configuration")
        return content

    def _values(self, folder: Path) -> Mapping[str, Any]:
        """The configuration of a checkpoint's model: its own, or that of the run."""
        if (folder / "config.json").is_file():
            return read_json(folder / "config.json")
        model = (self._training or {}).get("model")
        if not isinstance(model, Mapping):
            raise PicoLMError(f"neither {folder / 'config.json'} nor {self.path / TRAINING_CONFIG} describes the model")
        return {**model, "model_type": MODEL_TYPE}

    def _snapshot(self, step: int) -> Snapshot:
        folder = self._folders[step]
        store = None if holds_weights(folder) else TorchStore([folder / _STATE], within="_model")
        return open_directory(folder, step, values=self._values(folder), store=store)

    def _capture(self, step: int) -> Capture:
        return PicoCapture(self._folders[step] / _DYNAMICS, step, self.geometry, _capture_batch(self._training))


class PicoCapture(Capture):
    """The `learning_dynamics` of one checkpoint: activations of one position of each sequence, and gradients."""

    def __init__(self, path: Path, step: int, geometry: Geometry, batch: int | None) -> None:
        """Open it.

        Args:
            path: the folder.
            step: of the checkpoint.
            geometry: of the model.
            batch: sequences of a forward of the capture; None: not known.
        """
        self.path, self.step, self._geometry, self._batch = path, step, geometry, batch
        self._opened: dict[Path, TorchFile] = {}
        self.notes = (
            f"{path}: gradients are sums over forwards of the capture, so their norms depend on its batch size",
        )
        if any(self._is_scrambled(probe) for probe in self.probes):
            self.notes += (f"{path}: one device wrote the activations, transposed by mistake; they are put right",)

    @property
    def probes(self) -> tuple[str, ...]:
        """As `Capture.probes`: `train` is the batch of the step, `val` is the same at all steps."""
        return tuple(sorted({file.stem.rpartition("_")[0] for file in self.path.glob("*_*.pt")}))

    def names(self, kind: Kind, probe: str | None) -> tuple[str, ...]:
        """As `Capture.names`."""
        return tuple(self._slots(kind, probe))

    def read(self, kind: Kind, names: Iterable[str], probe: str | None) -> dict[str, Tensor]:
        """As `Capture.read`; activations are [R, 1, width]."""
        slots = self._slots(kind, probe)
        wanted = require_names(names, slots, self.path, kind.replace("_", " "))
        if not wanted:
            return {}
        file = self._file(kind, probe)
        stored = tensors_in(file.content, file.path)
        found = {name: file.tensor(stored[slots[name].stored.removesuffix(".weight")]) for name in wanted}
        if kind == "gradient":
            return {name: slots[name].cut(tensor) for name, tensor in found.items()}
        if self._is_scrambled(str(probe)):
            found = {name: self._unscrambled(tensor) for name, tensor in found.items()}
        return {name: slots[name].cut_output(tensor)[:, None] for name, tensor in found.items()}

    def real(self, probe: str) -> Tensor:
        """As `Capture.real`: one position of each sequence."""
        if self._path("activation", probe) is None:
            return torch.ones(0, 1, dtype=torch.bool)
        file = self._file("activation", probe)
        shapes = {stored.shape[0] for stored in tensors_in(file.content, file.path).values()}
        return torch.ones(max(shapes, default=0), 1, dtype=torch.bool)

    def tokens(self, probe: str) -> Tensor | None:
        """As `Capture.tokens`: of the training batch, the last token of each row predicted only."""
        files = sorted((self.path / f"{probe}_data").glob("data-*.arrow"))
        if not files:
            return None
        rows: list[Any] = []
        for file in files:
            try:
                with pa.memory_map(str(file)) as mapped:
                    rows += pa.ipc.open_stream(mapped).read_all()["input_ids"].to_pylist()
                tokens = np.array(rows, dtype=np.int64)
            except (OSError, KeyError, ValueError, pa.ArrowException) as error:
                raise PicoLMError(f"'{file}' is damaged or holds no rows of input_ids: {error}") from error
        return torch.from_numpy(tokens)

    def _slots(self, kind: Kind, probe: str | None) -> Mapping[str, Slot]:
        """Canonical names, and where they stand in a file; none where there is no such file."""
        file = self._path(kind, probe)
        if file is None:
            return {}
        keys = [f"{key}.weight" for key in tensors_in(self._file(kind, probe).content, file)]
        return slots_of(keys, ARCHITECTURES[MODEL_TYPE], self._geometry, tied=False)

    def _path(self, kind: Kind, probe: str | None) -> Path | None:
        if kind not in ("activation", "gradient"):
            return None
        if probe not in self.probes:
            raise PicoLMError(f"{self.path} has no probe '{probe}'{nearest(str(probe), self.probes)}")
        file = self.path / f"{probe}_{kind}s.pt"
        return file if file.is_file() else None

    def _file(self, kind: Kind, probe: str | None) -> TorchFile:
        path = self._path(kind, probe)
        assert path is not None
        if path not in self._opened:
            self._opened[path] = TorchFile(path)
        return self._opened[path]

    def _is_scrambled(self, probe: str) -> bool:
        """Whether one device wrote the activations: then each forward's were transposed before they were joined."""
        if self._path("activation", probe) is None:
            return False
        file = self._file("activation", probe)
        keys = list(tensors_in(file.content, file.path))
        return any(key.startswith(_ONE_DEVICE) and not key.startswith(_MANY_DEVICES) for key in keys)

    def _unscrambled(self, activations: Tensor) -> Tensor:
        if self._batch is None:
            raise PicoLMError(
                f"{self.path}: one device wrote the activations, transposed by mistake; to put them right, "
                f"{TRAINING_CONFIG} must stand in the run, with checkpointing.learning_dynamics.batch_size"
            )
        # Each forward's x [b, width] was stored as x.T.reshape(b, width).
        width = activations.shape[1]
        parts = [activations[start : start + self._batch] for start in range(0, len(activations), self._batch)]
        return torch.cat([part.reshape(width, len(part)).T for part in parts])


def _has_weights(folder: Path) -> bool:
    return holds_weights(folder) or (folder / _STATE).is_file()


def _capture_batch(training: Mapping[str, Any] | None) -> int | None:
    if training is None:
        return None
    place: Any = training
    for key in ("checkpointing", _DYNAMICS, "batch_size"):
        place = place.get(key) if isinstance(place, Mapping) else None
    return place if isinstance(place, int) and place > 0 else _DEFAULT_BATCH
