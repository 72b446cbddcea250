"""What the models of a suite show: read from captures, or computed on a probe.

Shapes: R rows, P positions, H heads.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from picolm.analysis.circuits import Factors
from picolm.analysis.probe import Probe
from picolm.analysis.reading import build_gradients
from picolm.analysis.sites import ActivationSite, MatrixSite, activation_sites
from picolm.analysis.source import Source, digest_of
from picolm.analysis.subject import Subject, look
from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_json


@dataclass(frozen=True, slots=True)
class Sight:
    """Activations of a model, and which rows they are of."""

    parts: dict[str, Tensor]
    """By the name of what was seen: [R, P, ...], or [R, H, P, ...] head by head."""
    weights: dict[str, Tensor]
    """What derived activations are made with."""
    real: Tensor
    """bool [R, P]: what stands for a token."""
    documents: Tensor | None
    """int64 [R, P]: where attention begins anew; None: nowhere."""
    tokens: Tensor | None
    """int64 [R, T]: the rows, where another step or another suite may have been shown others; None: never."""

    def activation(self, site: ActivationSite) -> Tensor:
        """One site's, in float32 at least: made when it is asked for, as all heads' would be far larger than a layer's.

        Args:
            site: one whose part was seen.
        """
        # Captures may be in half precision: what is computed from them is not.
        seen = self.parts[site.part]
        precise = seen.to(torch.promote_types(seen.dtype, torch.float32))
        return site.build(precise, *(self.weights[name] for name in site.weights))


class Eye(ABC):
    """One model, looked at after one step."""

    @property
    @abstractmethod
    def probes(self) -> tuple[str, ...]:
        """Names of what it is shown."""

    @abstractmethod
    def digest(self, activations: Sequence[ActivationSite], gradients: Sequence[MatrixSite]) -> str:
        """SHA-256 of all that decides about what is seen."""

    @abstractmethod
    def see(self, probe: str, sites: Sequence[ActivationSite]) -> Sight:
        """Look at activations; those that were not captured with this probe are left out."""

    @abstractmethod
    def gradients(self, probe: str, sites: Sequence[MatrixSite]) -> dict[str, Tensor | Factors]:
        """Gradients of the mean loss, by label; those that were not captured with this probe are left out."""

    @abstractmethod
    def row_gradients(self, probe: str, site: MatrixSite) -> Tensor:
        """The gradient of each row's own mean loss [R, p]."""

    def knows_documents(self, probe: str) -> bool:
        """Whether it is known where attention begins anew, so that visible keys are known."""
        return True


class Sights(ABC):
    """A suite that can be looked at."""

    steps: tuple[int, ...]
    activations: dict[str, ActivationSite]
    gradients: tuple[str, ...]
    """Names of the matrices whose gradients can be had."""

    @abstractmethod
    def at(self, step: int) -> Eye:
        """The model after one of `steps`."""


class Captured(Sights):
    """What was stored while the model was trained."""

    def __init__(self, source: Source) -> None:
        """Find out what the captures hold: what the last one holds.

        Args:
            source: one with captures.

        Raises:
            PicoLMError: the last capture is damaged.
        """
        self._source, self.steps = source, source.capture_steps
        capture = source.capture(self.steps[-1])
        seen = {name: None for probe in capture.probes for name in capture.names("activation", probe)}
        learnt = {name: None for probe in capture.probes for name in capture.names("gradient", probe)}
        self.activations, self.gradients = activation_sites(seen, source.geometry), tuple(learnt)

    def at(self, step: int) -> Eye:
        """As `Sights.at`."""
        return _CapturedEye(self._source, step)


class _CapturedEye(Eye):
    def __init__(self, source: Source, step: int) -> None:
        self._source, self._step, self._capture = source, step, source.capture(step)

    @property
    def probes(self) -> tuple[str, ...]:
        return self._capture.probes

    def digest(self, activations: Sequence[ActivationSite], gradients: Sequence[MatrixSite]) -> str:
        found: list[object] = [site.weights for site in activations]
        for probe in self.probes:
            parts = self._there("activation", probe, [site.part for site in activations])
            found += [[name, digest_of(t)] for name, t in self._capture.read("activation", parts, probe).items()]
            parts = self._there("gradient", probe, [name for site in gradients for name in site.parts])
            found += [[name, digest_of(t)] for name, t in self._capture.read("gradient", parts, probe).items()]
        if any(site.weights for site in activations) or any(len(site.parts) > 1 for site in gradients):
            found.append(self._source.snapshot(self._step).digest)
        return sha256_of_json(found)

    def see(self, probe: str, sites: Sequence[ActivationSite]) -> Sight:
        parts = self._there("activation", probe, [site.part for site in sites])
        seen = self._capture.read("activation", parts, probe)
        needed = {name for site in sites if site.part in seen for name in site.weights}
        weights = self._source.snapshot(self._step).read(needed) if needed else {}
        rows = self._rows(probe)
        return Sight(
            parts=seen,
            weights=weights,
            real=self._capture.real(probe) if parts else torch.zeros(0, 0, dtype=torch.bool),
            documents=None if rows is None else rows.documents,
            tokens=self._capture.tokens(probe) if rows is None else rows.input_ids,
        )

    def gradients(self, probe: str, sites: Sequence[MatrixSite]) -> dict[str, Tensor | Factors]:
        parts = self._there("gradient", probe, [name for site in sites for name in site.parts])
        learnt = self._capture.read("gradient", parts, probe)
        there = [site for site in sites if learnt.keys() >= set(site.parts)]
        circuits = {name for site in there if len(site.parts) > 1 for name in site.parts}
        weights = self._source.snapshot(self._step).read(circuits) if circuits else {}
        return build_gradients(there, weights, learnt)

    def row_gradients(self, probe: str, site: MatrixSite) -> Tensor:
        raise PicoLMError("captures hold no gradients of single rows: name a text to compute them on with --probe")

    def knows_documents(self, probe: str) -> bool:
        return self._rows(probe) is not None

    def _rows(self, probe: str) -> Probe | None:
        # Those of a training batch are stored without the borders of their documents.
        if self._capture.tokens(probe) is not None:
            return None
        return self._source.probe(probe.partition(".")[0])

    def _there(self, kind: str, probe: str, names: Sequence[str]) -> list[str]:
        known = self._capture.names("gradient" if kind == "gradient" else "activation", probe)
        return [name for name in dict.fromkeys(names) if name in known]


class Computed(Sights):
    """What each model of the suite shows of one probe."""

    def __init__(self, source: Source, probe: Probe, name: str) -> None:
        """Find out what the newest model shows.

        Args:
            source: whose models are shown it.
            probe: what they are shown.
            name: of the probe in tables.

        Raises:
            PicoLMError: the newest model cannot be run here.
        """
        if not source.steps:
            raise PicoLMError(f"{source.kind} {source.path} has no checkpoint to show a probe to")
        self._source, self._probe, self._name, self.steps = source, probe, name, source.steps
        subject = source.snapshot(source.steps[-1]).subject()
        self.activations = activation_sites(subject.sites, source.geometry)
        self.gradients = tuple(subject.slots) if probe.targets is not None else ()

    def at(self, step: int) -> Eye:
        """As `Sights.at`."""
        return _ComputedEye(self._source, step, self._probe, self._name)


class _ComputedEye(Eye):
    def __init__(self, source: Source, step: int, probe: Probe, name: str) -> None:
        self._snapshot, self._probe, self._name = source.snapshot(step), probe, name
        self._subject: Subject | None = None
        self._last: tuple[tuple[str, ...], Sight] | None = None
        # The eye of a step that others are compared with serves several threads, and a model holds one probe's hooks.
        self._lock = threading.RLock()

    @property
    def probes(self) -> tuple[str, ...]:
        return (self._name,)

    def digest(self, activations: Sequence[ActivationSite], gradients: Sequence[MatrixSite]) -> str:
        return sha256_of_json([self._snapshot.digest, self._probe.digest])

    def see(self, probe: str, sites: Sequence[ActivationSite]) -> Sight:
        asked = tuple(site.name for site in sites)
        with self._lock:
            if self._last is None or self._last[0] != asked:
                # Let go of first: two at once would be the peak of memory.
                self._last = None
                self._last = asked, self._seen(sites)
            return self._last[1]

    def gradients(self, probe: str, sites: Sequence[MatrixSite]) -> dict[str, Tensor | Factors]:
        parts = list(dict.fromkeys(name for site in sites for name in site.parts))
        with self._lock:
            learnt = look(self._model, self._probe, gradients=parts).gradients
        return build_gradients(sites, self._snapshot.read(parts), learnt)

    def row_gradients(self, probe: str, site: MatrixSite) -> Tensor:
        rows = [self._probe.rows(slice(at, at + 1)) for at in range(len(self._probe.input_ids))]
        with self._lock:
            return torch.stack(
                [look(self._model, row, gradients=[site.name]).gradients[site.name].flatten() for row in rows]
            )

    def _seen(self, sites: Sequence[ActivationSite]) -> Sight:
        parts = list(dict.fromkeys(site.part for site in sites))
        needed = {name for site in sites for name in site.weights}
        seen = look(self._model, self._probe, activations=parts).activations
        weights = self._snapshot.read(needed) if needed else {}
        return Sight(seen, weights, self._probe.real, self._probe.documents, None)

    @property
    def _model(self) -> Subject:
        if self._subject is None:
            self._subject = self._snapshot.subject()
        return self._subject
