"""Captures as they come onto the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from picolm.config import schema
from picolm.errors import to_standard_error
from picolm.model.files import save_tensors
from picolm.runs.captures import KIND, capture_path, metrics_path, probe_path
from picolm.runs.directory import RunDirectory
from picolm.runs.durable import committed_directory
from picolm.runs.manifest import write_manifest
from picolm.runs.resumption import settle_earlier
from picolm.runs.tables import Measured, write_metrics


class CaptureFiles:
    """Writes the captures of a run and the metrics that belong to them."""

    def __init__(self, capture: schema.Capture, run: RunDirectory, committed: Callable[[Path], None]) -> None:
        """Prepare to write.

        Args:
            capture: what the manifests speak of.
            run: where captures stand.
            committed: told the path of each capture and of each table of metrics once it is whole.
        """
        self.capture, self.run, self.committed = capture, run, committed

    def write(self, step: int, files: Mapping[str, Mapping[str, Tensor]], rows: Sequence[Measured]) -> None:
        """Write what was seen after `step` updates.

        Args:
            step: updates made.
            files: tensors by file; a file without tensors is not written.
            rows: what was measured.

        Raises:
            PicoLMError: the disk is full, or the place cannot be written to.
        """
        # The metrics first: a capture that is whole says that its step is done.
        if rows:
            metrics = metrics_path(self.run.path, step)
            write_metrics(metrics, rows)
            self.committed(metrics)
        path = capture_path(self.run.path, step)
        with committed_directory(path) as directory:
            for name, tensors in files.items():
                if tensors:
                    save_tensors(tensors, directory / f"{name}.safetensors")
            write_manifest(directory, kind=KIND, step=step, **self._facts(step))
        self.committed(path)
        for sentence in settle_earlier(path):
            to_standard_error(sentence)

    def _facts(self, step: int) -> dict[str, Any]:
        capture, run = self.capture, self.run.path

        def place(path: Path) -> str:
            return path.relative_to(run).as_posix()

        return {
            "dtype": capture.dtype,
            "positions": capture.positions if capture.positions == "all" else list(capture.positions),
            "weights": place(self.run.checkpoint_path(step)),
            "probes": {name: place(probe_path(run, name)) for name in capture.probes},
        }
