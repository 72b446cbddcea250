"""Measuring one step of a suite: every metric of a plan, each tensor read once and each spectrum made once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from picolm.analysis.attention import visible_keys
from picolm.analysis.comparison import Comparison
from picolm.analysis.metric import Metric
from picolm.analysis.plan import Plan, gradient_label
from picolm.analysis.probe import token_rows
from picolm.analysis.reading import digests, read_matrices
from picolm.analysis.sights import Eye, Sight, Sights
from picolm.analysis.sites import ActivationSite, MatrixSite, head_of
from picolm.analysis.source import Source
from picolm.analysis.stacks import stacked_values
from picolm.errors import PicoLMError
from picolm.model.sites import layer_of
from picolm.runs.digest import sha256_of_json
from picolm.runs.tables import Measured

Tick = Callable[[int], None]
"""Told how many more sites are done; may raise, which ends the work."""
_BYTES_AT_ONCE = 2**26
"""Stored bytes that are turned into float64 together, a few copies of them."""
_PARTS_AT_ONCE = 24
"""Activations that are held at once: of 2,048 tokens, 6 MiB each in a stream of 768."""


@dataclass(slots=True)
class Measuring:
    """A plan for the steps of one suite; several threads may measure steps of it at once.

    Attributes:
        source: the suite.
        plan: what is measured.
        comparison: with what, for metrics of pairs.
        sights: what the models show; None where the plan needs nothing of the kind.
        compared_sights: what the compared models show.
    """

    source: Source
    plan: Plan
    comparison: Comparison
    sights: Sights | None = None
    compared_sights: Sights | None = None
    _digests: dict[int, dict[str, str]] = field(default_factory=dict)
    _eyes: dict[int, Eye] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def content(self, step: int) -> str:
        """SHA-256 of all that a step's figures depend on beside the code: weights, captures, probe, what is compared.

        Raises:
            PicoLMError: a file is damaged, or a compared step is not there.
        """
        found: list[object] = []
        if self.plan.weights and step in self.source.steps:
            found.append(digests(self.source, list(self.plan.weights), step))
            other = self._compared_step(step, self.comparison.source.steps, self.plan.weights)
            if other is not None:
                pairs = [site for site, metrics in self.plan.weights.items() if _compares(metrics)]
                found += [self.comparison.label(other), self._compared_digests(pairs, other)]
        if self.sights is not None and step in self.sights.steps:
            seen = list(self.plan.activations), list(self.plan.gradients)
            found.append(self.sights.at(step).digest(*seen))
            other = self._compared_sight(step)
            if other is not None:
                found += [self.comparison.label(other), self._compared_eye(other).digest(*seen)]
        return sha256_of_json(found)

    def rows(self, step: int, tick: Tick = lambda count: None) -> list[Measured]:
        """Measure a step: what is not there then (an update before the first step, a capture) is left out.

        Args:
            step: one with weights or with a capture.
            tick: told of sites that are done.

        Raises:
            PicoLMError: a file is damaged, or a compared step is not there.
        """
        rows = []
        if self.plan.weights and step in self.source.steps:
            rows += list(self._weights(step, tick))
        if self.sights is not None and step in self.sights.steps:
            eye = self.sights.at(step)
            other_step = self._compared_sight(step)
            other = None if other_step is None else self._compared_eye(other_step)
            against = None if other_step is None else self.comparison.label(other_step)
            for probe in eye.probes:
                rows += list(self._gradients(step, eye, other, against, probe, tick))
                rows += list(self._activations(step, eye, other, against, probe, tick))
        return rows

    def _weights(self, step: int, tick: Tick) -> Iterator[Measured]:
        other = self._compared_step(step, self.comparison.source.steps, self.plan.weights)
        shapes = self.source.snapshot(step).shapes
        for sites in _portions(list(self.plan.weights), shapes):
            matrices = read_matrices(self.source, sites, step)
            pairs = [site for site in sites if _compares(self.plan.weights[site])]
            others = {} if other is None else read_matrices(self.comparison.source, pairs, other)
            metrics = {site.label: self.plan.weights[site] for site in sites}
            against = None if other is None else self.comparison.label(other)
            places = {site.label: site for site in sites}
            for label, one, name, value in stacked_values(matrices, others, metrics):
                yield _row(step, name, places[label], label, None, value, against if _compares([one]) else None)
            tick(len(sites))

    def _gradients(
        self, step: int, eye: Eye, other: Eye | None, against: str | None, probe: str, tick: Tick
    ) -> Iterator[Measured]:
        if not self.plan.gradients:
            return
        shapes = self.source.snapshot(self.source.steps[-1]).shapes
        # All gradients of a portion come from one pass through the model.
        for sites in _portions(list(self.plan.gradients), shapes):
            labels = {site.label: gradient_label(site) for site in sites}
            places = {site.label: site for site in sites}
            of_mean = {site.label: self._gradient_metrics(site, of_rows=False) for site in sites}
            asked = [site for site in sites if of_mean[site.label]]
            there = eye.gradients(probe, asked) if asked else {}
            pairs = [site for site in asked if _compares(of_mean[site.label])]
            is_compared = other is not None and probe in other.probes and pairs
            before = other.gradients(probe, pairs) if other is not None and is_compared else {}
            for name, one, full, value in stacked_values(there, before, of_mean):
                yield _row(step, full, places[name], labels[name], probe, value, against if _compares([one]) else None)
            for site in sites:
                yield from self._row_gradients(step, eye, site, probe)
            tick(len(sites))

    def _row_gradients(self, step: int, eye: Eye, site: MatrixSite, probe: str) -> Iterator[Measured]:
        metrics = self._gradient_metrics(site, of_rows=True)
        rows = eye.row_gradients(probe, site) if metrics else None
        for one in metrics:
            for name, value in named(one, one.function(rows)):
                yield _row(step, name, site, gradient_label(site), probe, float(value), None)

    def _gradient_metrics(self, site: MatrixSite, *, of_rows: bool) -> tuple[Metric, ...]:
        return tuple(one for one in self.plan.gradients[site] if (one.takes == "gradients") == of_rows)

    def _activations(
        self, step: int, eye: Eye, other: Eye | None, against: str | None, probe: str, tick: Tick
    ) -> Iterator[Measured]:
        for sites in self._sight_portions():
            sight = eye.see(probe, sites)
            needs_other = other is not None and any(_compares(self.plan.activations[site]) for site in sites)
            before = None if other is None or not needs_other else _same_rows(sight, other, probe, sites)
            for site in sites:
                for one in self.plan.activations[site] if site.part in sight.parts else ():
                    compared = against if _compares([one]) else None
                    for name, values in self._seen(one, site, sight, before, eye.knows_documents(probe)):
                        heads: list[int | None] = list(range(len(values))) if values.ndim else [head_of(site.name)]
                        for head, value in zip(heads, values.reshape(-1).tolist(), strict=True):
                            yield Measured(step, name, site.name, layer_of(site.name), head, probe, value, compared)
                tick(1)

    def _seen(
        self, one: Metric, site: ActivationSite, sight: Sight, before: Sight | None, knows_documents: bool
    ) -> Iterator[tuple[str, Tensor]]:
        """(name, value [], or [H] head by head) of one metric at one site."""
        activation = sight.activation(site)
        if one.takes == "pattern":
            if knows_documents:
                yield from named(one, _of_pattern(one, activation, sight, self.source.geometry.causal))
        elif one.takes == "activations":
            yield from named(one, one.function(token_rows(activation, sight.real)))
        elif before is not None and site.part in before.parts:
            real = sight.real & before.real
            pair = token_rows(activation, real), token_rows(before.activation(site), real)
            yield from named(one, one.function(*pair))

    def _sight_portions(self) -> Iterator[list[ActivationSite]]:
        """Sites in order, as many as are worth being held in memory; a part that is shared by several counts once."""
        portion: list[ActivationSite] = []
        parts: set[str] = set()
        for site in self.plan.activations:
            if portion and len(parts | {site.part}) > _PARTS_AT_ONCE:
                yield portion
                portion, parts = [], set()
            portion.append(site)
            parts.add(site.part)
        if portion:
            yield portion

    def _compared_step(
        self, step: int, there: Sequence[int], of: Mapping[MatrixSite, tuple[Metric, ...]]
    ) -> int | None:
        return self.comparison.step(step, there) if any(map(_compares, of.values())) else None

    def _compared_digests(self, pairs: Sequence[MatrixSite], step: int) -> dict[str, str]:
        if step not in self._digests:
            self._digests[step] = digests(self.comparison.source, pairs, step)
        return self._digests[step]

    def _compared_sight(self, step: int) -> int | None:
        if self.compared_sights is None:
            return None
        if not any(map(_compares, (*self.plan.activations.values(), *self.plan.gradients.values()))):
            return None
        return self.comparison.step(step, self.compared_sights.steps)

    def _compared_eye(self, step: int) -> Eye:
        assert self.compared_sights is not None
        if not self.comparison.is_fixed:
            return self.compared_sights.at(step)
        with self._lock:
            if step not in self._eyes:
                self._eyes[step] = self.compared_sights.at(step)
            return self._eyes[step]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let each thread compute by itself: decompositions of small matrices gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def named(one: Metric, found: Tensor | Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """What a metric gave, by its name in tables: `metric`, or `metric.value` for each of several values."""
    if isinstance(found, Mapping):
        for name, values in found.items():
            yield f"{one.name}.{name}", torch.as_tensor(values, dtype=torch.float64)
    else:
        yield one.name, torch.as_tensor(found, dtype=torch.float64)


def _compares(metrics: Sequence[Metric]) -> bool:
    return any(one.compares for one in metrics)


def _row(
    step: int, name: str, site: MatrixSite, label: str, probe: str | None, value: float, against: str | None
) -> Measured:
    return Measured(step, name, label, site.layer, site.head, probe, value, against)


def _portions(sites: Sequence[MatrixSite], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[list[MatrixSite]]:
    """Sites in order, as many as are worth holding together; what is shared by several counts once."""
    portion: list[MatrixSite] = []
    parts: set[str] = set()
    for site in sites:
        grown = parts | set(site.parts)
        if portion and sum(4 * shapes[part][0] * shapes[part][1] for part in grown if part in shapes) > _BYTES_AT_ONCE:
            yield portion
            portion, grown = [], set(site.parts)
        portion.append(site)
        parts = grown
    if portion:
        yield portion


def _same_rows(sight: Sight, other: Eye, probe: str, sites: Sequence[ActivationSite]) -> Sight | None:
    """What the compared model shows of the same rows; None where it was shown others, such as its training batch."""
    if probe not in other.probes:
        return None
    before = other.see(probe, sites)
    if before.real.shape != sight.real.shape or (before.tokens is None) != (sight.tokens is None):
        return None
    if before.tokens is not None and sight.tokens is not None and not torch.equal(before.tokens, sight.tokens):
        return None
    return before


def _of_pattern(one: Metric, pattern: Tensor, sight: Sight, causal: bool) -> dict[str, Tensor] | Tensor:
    """A metric of [R, H, T, T], head by head [H]: the mean over all queries that have a choice, whatever their row."""
    if pattern.shape[-1] != pattern.shape[-2]:
        raise PicoLMError(
            f"'{one.name}' needs all queries of a pattern: capture with capture.positions: all, or name a --probe"
        )
    visible = visible_keys(sight.real, causal=causal, documents=sight.documents)
    found = one.function(pattern, visible=visible)
    counted = (visible.sum(-1) > 1).sum(-1).to(torch.float64)
    if isinstance(found, Mapping):
        return {name: _weighted(values, counted) for name, values in found.items()}
    return _weighted(found, counted)


def _weighted(values: Tensor, counted: Tensor) -> Tensor:
    # A row without a query that is counted is NaN, and says nothing.
    shares = torch.where(counted > 0, values * counted, 0.0).sum(0)
    mean: Tensor = shares / counted.sum(0)
    return mean
