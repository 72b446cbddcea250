"""One step of a run that is at work, as a source: tensors in memory under canonical names, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from picolm.analysis.geometry import Geometry
from picolm.analysis.probe import Positions, Probe, text_positions
from picolm.analysis.source import Capture, Kind, Snapshot, Source, digest_of, require_names
from picolm.analysis.sources.own import by_head
from picolm.analysis.subject import Subject
from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_json


@dataclass(frozen=True, slots=True)
class Shown:
    """What one batch shows of a model: R rows, T positions of which P are chosen."""

    activations: Mapping[str, Tensor]
    """By site: [R, P, ...], or [R, heads, P, ...] inside attention."""
    gradients: Mapping[str, Tensor]
    """By matrix: of the mean loss."""
    tokens: Tensor
    """int64 [R, T]."""
    lengths: Tensor | None
    """int64 [R], how many positions of each row are text; None: all."""
    documents: Tensor | None
    """int64 [R, T]: where attention begins anew; None: nowhere."""
    is_fixed: bool
    """Whether the rows are the same at every step, as those of a probe are and those of training are not."""


class MemorySource(Source):
    """A run at one step."""

    kind = "PicoLM run"

    def __init__(
        self,
        path: Path,
        step: int,
        *,
        geometry: Geometry,
        weights: Mapping[str, Tensor],
        batches: Mapping[str, Shown],
        positions: Positions,
    ) -> None:
        """Take what there is.

        Args:
            path: of the run, for messages.
            step: updates made.
            geometry: of the model.
            weights: by canonical name, as the checkpoint of this step has them; those that are needed suffice.
            batches: what the model was shown, by name (`held_out`, or `held_out.masked` for one of its views).
            positions: those of which there are activations.
        """
        self.path, self.steps, self.capture_steps, self.geometry = path, (step,), (step,), geometry
        self._weights, self._batches, self._positions = weights, batches, positions

    def probe(self, name: str) -> Probe | None:
        """As `Source.probe`, without targets: the views of a batch have the same rows."""
        shown = next((one for key, one in self._batches.items() if key.partition(".")[0] == name), None)
        if shown is None or not shown.is_fixed:
            return None
        length = shown.tokens.shape[1]
        return Probe(shown.tokens, mask=text_positions(_lengths(shown), length, "all"), documents=shown.documents)

    def _snapshot(self, step: int) -> Snapshot:
        return _MemorySnapshot(self.path, step, self.geometry, self._weights)

    def _capture(self, step: int) -> Capture:
        return _MemoryCapture(self.path, step, self._batches, self._positions)


class _MemorySnapshot(Snapshot):
    def __init__(self, path: Path, step: int, geometry: Geometry, weights: Mapping[str, Tensor]) -> None:
        self.path, self.step, self.geometry, self._weights = path, step, geometry, weights

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self._weights.items()}

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        return {name: self._weights[name] for name in require_names(names, self._weights, self.path, "matrix")}

    @property
    def digest(self) -> str:
        return sha256_of_json({name: digest_of(tensor) for name, tensor in self._weights.items()})

    def subject(self) -> Subject:
        raise PicoLMError(f"{self.path} is at work: what its model shows is what its capture saw")


class _MemoryCapture(Capture):
    def __init__(self, path: Path, step: int, batches: Mapping[str, Shown], positions: Positions) -> None:
        self.path, self.step, self._batches, self._positions = path, step, batches, positions

    @property
    def probes(self) -> tuple[str, ...]:
        return tuple(sorted(self._batches))

    def names(self, kind: Kind, probe: str | None) -> tuple[str, ...]:
        return tuple(self._held(kind, probe))

    def read(self, kind: Kind, names: Iterable[str], probe: str | None) -> dict[str, Tensor]:
        held = self._held(kind, probe)
        found = {name: held[name] for name in require_names(names, held, self.path, kind)}
        if kind != "activation":
            return found
        return {name: by_head(tensor, 1 if name.endswith("_norm") else 2) for name, tensor in found.items()}

    def real(self, probe: str) -> Tensor:
        shown = self._batches[probe]
        return text_positions(_lengths(shown), shown.tokens.shape[1], self._positions)

    def tokens(self, probe: str) -> Tensor | None:
        shown = self._batches[probe]
        return None if shown.is_fixed else shown.tokens

    def _held(self, kind: Kind, probe: str | None) -> Mapping[str, Tensor]:
        if probe is None or kind not in ("activation", "gradient"):
            return {}
        return self._batches[probe].activations if kind == "activation" else self._batches[probe].gradients


def _lengths(shown: Shown) -> Tensor:
    rows, length = shown.tokens.shape
    return torch.full((rows,), length) if shown.lengths is None else shown.lengths
