"""Sources: a suite of checkpoints of one model, read under canonical names whoever wrote it.

source = open_source("runs/demo")           # or an original Pico run, or a folder of Hugging Face revisions
snapshot = source.snapshot(source.steps[-1])
snapshot.read(["layers.0.attention.o_proj"])  # that matrix and no other, memory-mapped
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from picolm.analysis.geometry import Geometry
from picolm.analysis.probe import Probe
from picolm.analysis.subject import Subject
from picolm.errors import PicoLMError, nearest

Kind = Literal["activation", "gradient", "update", "token_loss"]
"""What a capture can hold: by site, by matrix, by matrix, by term of the loss."""


class Snapshot(ABC):
    """The weights after some step."""

    step: int
    path: Path
    geometry: Geometry

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """By canonical name; only the files' headers are read. Tensors without a canonical name keep their own."""

    @abstractmethod
    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Read some tensors by canonical name, in their stored precision; no others.

        Where the format allows it they are memory-mapped: what is not used is not loaded. They are not to be changed.

        Raises:
            PicoLMError: there is no such tensor, or a file is damaged or missing.
        """

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 that tells these weights from all others: what computed activations and gradients depend on."""

    @abstractmethod
    def subject(self) -> Subject:
        """Load the model itself in float32, for what must be computed.

        Raises:
            PicoLMError: this kind of model cannot be run here, or only with `transformers`, which is not installed.
        """


class Capture(ABC):
    """What was stored of a model's inside when it had made some steps."""

    step: int
    path: Path
    notes: tuple[str, ...] = ()
    """A sentence for each thing that is not what one would expect."""

    @property
    @abstractmethod
    def probes(self) -> tuple[str, ...]:
        """Names of the batches that the model was shown."""

    @abstractmethod
    def names(self, kind: Kind, probe: str | None) -> tuple[str, ...]:
        """What is there of a kind, by canonical name; updates belong to no probe (None)."""

    @abstractmethod
    def read(self, kind: Kind, names: Iterable[str], probe: str | None) -> dict[str, Tensor]:
        """Read some of it, no more.

        Returns:
            Activations are [R, P, ...] for P chosen positions, head by head [R, heads, P, ...]; NaN where a row has no
            such position. Gradients and updates have the shape of their matrix, token losses are [R, T].

        Raises:
            PicoLMError: there is no such thing, or a file is damaged.
        """

    @abstractmethod
    def real(self, probe: str) -> Tensor:
        """Which of the positions of this probe's activations are tokens of its text, bool [R, P]."""

    def tokens(self, probe: str) -> Tensor | None:
        """The rows that the model was shown, int64 [R, T], where they are stored with what it showed; else None."""
        return None


class Source(ABC):
    """A suite of checkpoints of one model."""

    path: Path
    kind: str
    """In words, for messages: `PicoLM run`."""
    steps: tuple[int, ...]
    """Those with weights, ascending. A model that is no member of a suite stands as step 0."""
    capture_steps: tuple[int, ...] = ()
    """Those with a capture, ascending."""
    notes: tuple[str, ...] = ()
    """A sentence for each thing that was left out."""
    geometry: Geometry

    @abstractmethod
    def _snapshot(self, step: int) -> Snapshot:
        """Open one of `steps`."""

    def _capture(self, step: int) -> Capture:
        """Open one of `capture_steps`; sources without captures need not override it."""
        raise AssertionError(f"{self.kind} has no captures")

    def snapshot(self, step: int) -> Snapshot:
        """Open the weights after a step; nothing but headers is read yet.

        Raises:
            PicoLMError: there are none, they are damaged, or they are of a model of another shape.
        """
        self._require(step, self.steps, "checkpoint")
        snapshot = self._snapshot(step)
        if snapshot.geometry != self.geometry:
            raise PicoLMError(f"{snapshot.path} is another model than the other checkpoints of {self.path}")
        return snapshot

    def capture(self, step: int) -> Capture:
        """Open what was captured after a step.

        Raises:
            PicoLMError: there is nothing, or it is damaged.
        """
        self._require(step, self.capture_steps, "capture")
        return self._capture(step)

    def probe(self, name: str) -> Probe | None:
        """The rows of a probe that the source stores, to show them to its models again; None: it stores none so."""
        return None

    @property
    def tokenizer(self) -> Path | None:
        """The `tokenizer.json` of the newest checkpoint; None where there is none."""
        return None

    def _require(self, step: int, there: tuple[int, ...], what: str) -> None:
        if step not in there:
            steps = ", ".join(map(str, there)) or "none"
            raise PicoLMError(f"{self.kind} {self.path} has no {what} of step {step}; it has: {steps}")


def require_names(names: Iterable[str], there: Iterable[str], origin: object, what: str) -> list[str]:
    """The names as a list.

    Raises:
        PicoLMError: one of them is not there.
    """
    wanted, known = list(names), set(there)
    for name in wanted:
        if name not in known:
            raise PicoLMError(f"{origin} has no {what} '{name}'{nearest(name, known)}")
    return wanted


def digest_of(tensor: Tensor) -> str:
    """SHA-256 of a tensor's type, shape and values: the same for the same content, wherever it stands."""
    hashed = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    hashed.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return hashed.hexdigest()
