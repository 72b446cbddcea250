"""Metrics of a run that is at work: the same plan and the same functions as of a stored suite, on one step in memory.

While a model trains there is one step and no other, so nothing can be compared: metrics of pairs and `delta(...)` are
for the stored run. What they would need to be kept for is said in one sentence before the run begins.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from picolm.analysis.comparison import Comparison
from picolm.analysis.geometry import Geometry
from picolm.analysis.measure import Measuring, Tick, one_thread
from picolm.analysis.metric import Metric, metric
from picolm.analysis.plan import Plan, There, make_plan
from picolm.analysis.probe import Positions
from picolm.analysis.sights import Captured
from picolm.analysis.sites import activation_sites, matrix_sites
from picolm.analysis.sources.memory import MemorySource, Shown
from picolm.analysis.updates import parse_delta
from picolm.errors import PicoLMError
from picolm.runs.tables import Measured


@dataclass(frozen=True, slots=True)
class Inside:
    """What there is to measure in a model.

    Attributes:
        shapes: of its parameters as they are saved, by canonical name; a tied output matrix may be left out.
        activations: names of its sites.
        gradients: canonical names of parameters that have gradients.
    """

    shapes: Mapping[str, tuple[int, ...]]
    activations: Collection[str]
    gradients: Collection[str]


class Online:
    """What a run is asked at each of its captures, fitted to the model as it is now."""

    def __init__(
        self, metrics: Sequence[str], sites: Sequence[str], *, geometry: Geometry, tied: bool, positions: Positions
    ) -> None:
        """Take a request that `check_request` lets pass; `fit` comes before anything else.

        Args:
            metrics: names.
            sites: patterns, as `plan` has them.
            geometry: of the model.
            tied: whether its output matrix is its embedding.
            positions: those at which activations are seen.
        """
        self._metrics, self._sites = metrics, sites
        self._geometry, self._tied, self._positions = geometry, tied, positions
        self._plan = Plan({}, {}, {})

    def fit(self, inside: Inside, *, strict: bool) -> None:
        """Find the sites of each metric in a model.

        Args:
            inside: what the model has.
            strict: whether each metric must have a site and each site a metric.

        Raises:
            PicoLMError: one of them has none.
        """
        shapes = dict(inside.shapes)
        if self._tied and "embedding" in shapes:
            shapes.setdefault("unembedding", shapes["embedding"])
        matrices, learnt = matrix_sites(shapes, self._geometry), set(inside.gradients)
        there = There(
            # A circuit of a model that is built in another way may lack a part.
            {name: site for name, site in matrices.items() if shapes.keys() >= set(site.parts)},
            [name for name, site in matrices.items() if learnt.issuperset(site.parts)],
            activation_sites(inside.activations, self._geometry),
        )
        self._plan = make_plan(self._metrics, self._sites, there, strict=strict)

    @property
    def weights(self) -> set[str]:
        """Canonical names of the parameters that are needed."""
        plan = self._plan
        of_circuits = [site for site in plan.gradients if len(site.parts) > 1]
        names = {name for site in (*plan.weights, *of_circuits) for name in site.parts}
        names |= {name for site in plan.activations for name in site.weights}
        return {"embedding" if self._tied and name == "unembedding" else name for name in names}

    @property
    def activations(self) -> set[str]:
        """Names of the sites that must be seen."""
        return {site.part for site in self._plan.activations}

    @property
    def gradients(self) -> set[str]:
        """Canonical names of the parameters whose gradients are needed."""
        return {name for site in self._plan.gradients for name in site.parts}

    def total(self, n_batches: int) -> int:
        """How many sites are measured where the model is shown some batches: what `tick` counts up to."""
        return len(self._plan.weights) + n_batches * (len(self._plan.gradients) + len(self._plan.activations))

    def rows(
        self,
        path: Path,
        step: int,
        weights: Mapping[str, Tensor],
        batches: Mapping[str, Shown],
        tick: Tick = lambda count: None,
    ) -> list[Measured]:
        """Measure one step, on one thread as offline, so that the values are the same.

        Args:
            path: of the run, for messages.
            step: updates made.
            weights: by canonical name, those of `weights` at least.
            batches: what the model was shown, by name.
            tick: told of sites that are done.

        Raises:
            PicoLMError: a metric cannot be had from what was seen.
        """
        there = dict(weights)
        if self._tied and "embedding" in there:
            there.setdefault("unembedding", there["embedding"])
        source = MemorySource(
            path, step, geometry=self._geometry, weights=there, batches=batches, positions=self._positions
        )
        sights = Captured(source) if self._plan.needs_probe else None
        with one_thread():
            return Measuring(source, self._plan, Comparison(source, "final"), sights).rows(step, tick)


def check_request(metrics: Sequence[str], sites: Sequence[str], positions: Positions) -> None:
    """Refuse what is no metric, and what only a stored run can be asked.

    Args:
        metrics: names.
        sites: patterns.
        positions: those at which activations will be seen.

    Raises:
        PicoLMError: there is such a thing; the sentence says where it can be had.
    """
    for one in map(metric, metrics):
        _refuse_metric(one, positions)
    for pattern in sites:
        if parse_delta(pattern) is not None:
            raise PicoLMError(
                f"'{pattern}' compares two steps, and while a model trains there is only one: "
                f'`picolm analyze RUN --sites "{pattern}"` measures it after the run'
            )


def _refuse_metric(one: Metric, positions: Positions) -> None:
    after = f"`picolm analyze RUN --metrics {one.name}"
    if one.compares:
        raise PicoLMError(
            f"'{one.name}' compares two steps, and while a model trains there is only one: "
            f"{after}` measures it after the run"
        )
    if one.takes == "gradients":
        raise PicoLMError(
            f"'{one.name}' takes the gradients of single rows, and a capture sees the mean gradient: "
            f"{after} --probe NAME` measures it after the run"
        )
    if one.takes == "pattern" and positions != "all":
        raise PicoLMError(f"'{one.name}' needs all queries of a pattern: set capture.positions=all")
