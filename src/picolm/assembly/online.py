"""Metrics at the captures of a run, by the functions that `picolm analyze` uses on stored ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from picolm.analysis.geometry import geometry_of
from picolm.analysis.online import Inside, Online, check_request
from picolm.analysis.sources.memory import Shown
from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.sites import sites_of
from picolm.model.transformer import Transformer
from picolm.runs.tables import Measured
from picolm.seams import Need, Observer
from picolm.training.selection import module_of
from picolm.training.step_metrics import Seen, StepMetrics


class OnlineMetrics(StepMetrics):
    """What `capture.metrics` and `capture.metric_sites` ask for."""

    def __init__(self, config: schema.Config, run: Path, observers: Sequence[Observer] = ()) -> None:
        """Prepare.

        Args:
            config: resolved: the vocabulary's size is known.
            run: where the run stands, for messages.
            observers: told how far a step's metrics are.
        """
        self._run, self._observers = run, observers
        capture = config.capture
        self._online = Online(
            capture.metrics,
            capture.metric_sites,
            geometry=geometry_of(config.model, "picolm"),
            tied=config.model.tied,
            positions=capture.positions,
        )

    def follow(
        self,
        *,
        shapes: Mapping[str, tuple[int, ...]],
        sites: Collection[str],
        gradients: Collection[str],
        strict: bool,
    ) -> None:
        """As `StepMetrics.follow`."""
        try:
            self._online.fit(Inside(shapes, sites, gradients), strict=strict)
        except PicoLMError as error:
            raise PicoLMError(f"{_KEY}: {error}") from error

    def sites(self, need: Need) -> Collection[str]:
        """As `StepMetrics.sites`."""
        online = self._online
        of = {"weight": online.weights, "activation": online.activations, "gradient": online.gradients}
        return of.get(need, set())

    def rows(self, step: int, weights: Mapping[str, Tensor], seen: Mapping[str, Seen]) -> list[Measured]:
        """As `StepMetrics.rows`."""
        done, total = 0, self._online.total(len(seen))

        def tick(count: int) -> None:
            nonlocal done
            done += count
            for observer in self._observers:
                observer.evaluating(f"step {step}, metrics", done, total)

        shown = {name: _shown(one) for name, one in seen.items()}
        return self._online.rows(self._run, step, weights, shown, tick)


def online_metrics(config: schema.Config, run: Path, observers: Sequence[Observer]) -> OnlineMetrics | None:
    """The metrics of a run; None where it is asked for none."""
    return OnlineMetrics(config, run, observers) if config.capture.metrics else None


def check_names(capture: schema.Capture) -> None:
    """Refuse what shows before anything is prepared: names that are none, and what only a stored run can be asked.

    Raises:
        PicoLMError: there is such a thing.
    """
    try:
        check_request(capture.metrics, capture.metric_sites, capture.positions)
    except PicoLMError as error:
        raise PicoLMError(f"{_KEY}: {error}") from error


def check_metrics(config: schema.Config) -> None:
    """Refuse metrics without sites, and sites without metrics, before a run is made.

    What interventions add to a model is not known here: where there are any, this is found when the model is built.

    Args:
        config: resolved.

    Raises:
        PicoLMError: there are some.
    """
    if not config.capture.metrics or config.interventions:
        return
    with torch.device("meta"):
        model = Transformer(config.model)
    shapes = {module_of(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    OnlineMetrics(config, Path()).follow(shapes=shapes, sites=sites_of(model), gradients=shapes, strict=True)


_KEY = "capture.metrics"


def _shown(seen: Seen) -> Shown:
    tensors, lengths = seen.batch.view.tensors, seen.batch.lengths
    return Shown(
        activations=seen.findings.activations,
        gradients={module_of(name): tensor for name, tensor in seen.findings.gradients.items()},
        tokens=tensors["input_ids"],
        lengths=None if lengths is None else torch.from_numpy(lengths),
        documents=tensors.get("documents"),
        is_fixed=seen.is_probe,
    )
