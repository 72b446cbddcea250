"""Measurements while a model trains: what they need, and the rows that they give."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from picolm.errors import PicoLMError
from picolm.model.sites import layer_of, matching
from picolm.runs.tables import Measured
from picolm.seams import Measurement, Need, Reading
from picolm.training.selection import module_of

_OF_A_BATCH: frozenset[Need] = frozenset({"activation", "gradient", "token_loss"})

Supply = Mapping[Need, Mapping[str, Any]]
"""For each need, what there is, by site."""


@dataclass(frozen=True, slots=True)
class _Resolved:
    measurement: Measurement
    sites: tuple[str, ...]


class Measuring:
    """The measurements of a run and the sites at which each has all it needs."""

    def __init__(
        self, measurements: Sequence[Measurement], *, sites: Collection[str], parameters: Collection[str],
        terms: Collection[str], strict: bool = True,
    ) -> None:  # fmt: skip
        """Find the sites.

        Args:
            measurements: what is measured.
            sites: those of the model.
            parameters: by name, also of what is not trained now.
            terms: of the loss, those with token losses.
            strict: whether each measurement must have a site.

        Raises:
            PicoLMError: a measurement's pattern matches nothing that has all it needs.
        """
        modules = [module_of(name) for name in parameters]
        of = {"activation": list(sites), "token_loss": list(terms)}
        self._resolved = []
        for one in measurements:
            offered = [of.get(need, modules) for need in one.needs]
            both = [name for name in offered[0] if all(name in others for others in offered[1:])]
            found = matching(
                one.sites, both, key=f"measurement '{one.name}'", what=f"{' and '.join(one.needs)} at", strict=strict
            )
            self._resolved.append(_Resolved(one, tuple(found)))

    def sites(self, need: Need) -> set[str]:
        """Where something is needed."""
        return {site for one in self._resolved if need in one.measurement.needs for site in one.sites}

    def __call__(self, step: int, always: Supply, probes: Mapping[str, Supply]) -> list[Measured]:
        """Measure everything.

        Args:
            step: updates made.
            always: what does not depend on a batch: weights, moments, updates.
            probes: what each batch shows.
        """
        rows: list[Measured] = []
        for one in self._resolved:
            if _OF_A_BATCH.isdisjoint(one.measurement.needs):
                rows += _measured(one, step, None, always)
                continue
            for probe, seen in probes.items():
                rows += _measured(one, step, probe, {**always, **seen})
        return rows


def _measured(one: _Resolved, step: int, probe: str | None, supply: Supply) -> Iterator[Measured]:
    needs = one.measurement.needs
    for site in one.sites:
        if all(site in supply[need] for need in needs):
            reading = one.measurement.function(*(supply[need][site] for need in needs))
            for suffix, head, value in _values(reading, one.measurement.name):
                yield Measured(step, one.measurement.name + suffix, site, layer_of(site), head, probe, value)


def _values(reading: Reading, name: str) -> Iterator[tuple[str, int | None, float]]:
    """(what follows the metric's name, head, value)."""
    if isinstance(reading, Tensor):
        reading = reading.tolist()
    if isinstance(reading, Mapping):
        for key, value in reading.items():
            yield f".{key}", None, float(value)
    elif isinstance(reading, Sequence) and not isinstance(reading, str):
        for head, value in enumerate(reading):
            yield "", head, float(value)
    elif isinstance(reading, float | int):
        yield "", None, float(reading)
    else:
        raise PicoLMError(f"measurement '{name}' must give a number, numbers by name or a list of them, one per head")
