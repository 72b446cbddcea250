"""Rows of `metrics/` brought into order: a block for each metric, kind of site, batch and step compared with."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

from picolm.report.series import Series, number

_NUMBERED = re.compile(r"\b(layers|residual)\.(\d+)")
_CIRCUIT = re.compile(r"\.(ov|qk)\.(\d+)")
Place = tuple[int | None, int | None]
"""Layer and head; None: there is none."""


@dataclass
class Block:
    """What one metric found at one kind of site.

    Attributes:
        metric: with what follows its name (`power_law.alpha`).
        kind: the site with the numbers of layer and head taken out: `layers.*.attention.o_proj`; empty: of no site.
        probe: the batch; None where none is needed.
        against: what the step was compared with; None where nothing was.
        values: by (layer, head), by step.
    """

    metric: str
    kind: str
    probe: str | None
    against: str | None
    values: dict[Place, dict[int, float | None]] = field(default_factory=lambda: defaultdict(dict))

    @property
    def key(self) -> tuple[str, str, str | None, str | None]:
        """What blocks of two runs have in common that tell of the same."""
        return self.metric, self.kind, self.probe, self.against

    @cached_property
    def steps(self) -> list[int]:
        """All steps, ascending."""
        return sorted({step for curve in self.values.values() for step in curve})

    @cached_property
    def layers(self) -> list[int]:
        """All layers, ascending."""
        return sorted({layer for layer, _ in self.values if layer is not None})

    @cached_property
    def heads(self) -> list[int]:
        """All heads, ascending."""
        return sorted({head for _, head in self.values if head is not None})

    @property
    def places(self) -> list[Place]:
        """All layers and heads, ascending."""
        return sorted(self.values, key=lambda place: tuple(-1 if part is None else part for part in place))

    def mean(self, step: int, layer: int | None) -> float | None:
        """The mean over the heads of a layer; None where there is no finite value."""
        return _mean(curve.get(step) for (at, _), curve in self.values.items() if at == layer)

    def overall(self) -> Series:
        """The mean over all layers and heads, step by step."""
        return Series(self.steps, [_mean(curve.get(step) for curve in self.values.values()) for step in self.steps])

    def of_layer(self, layer: int | None) -> Series:
        """The mean over the heads of a layer, step by step."""
        return Series(self.steps, [self.mean(step, layer) for step in self.steps])


def blocks(rows: Iterable[dict[str, Any]]) -> list[Block]:
    """Sort rows of `metrics/` into blocks, in the order in which they first appear."""
    found: dict[tuple[str, str, str | None, str | None], Block] = {}
    for row in rows:
        kind, place = _place(row)
        against = row.get("against")
        key = (row["metric"], kind, row["probe"], None if against is None else str(against))
        block = found.setdefault(key, Block(*key))
        block.values[place][row["step"]] = number(row["value"])
    return list(found.values())


def by_metric(found: Sequence[Block]) -> dict[str, list[Block]]:
    """Blocks by the name of their metric, which may give several values (`power_law.alpha`)."""
    groups: dict[str, list[Block]] = defaultdict(list)
    for block in found:
        groups[block.metric.partition(".")[0]].append(block)
    return dict(groups)


def names(of: Sequence[Block]) -> list[str]:
    """What tells blocks of one metric apart: the value, the site, and batch and comparison where there are several."""
    several_probes = len({block.probe for block in of}) > 1
    several_against = len({block.against for block in of}) > 1
    titles = []
    for block in of:
        parts = [block.metric.partition(".")[2], block.kind or "whole model"]
        parts += [block.probe] if several_probes and block.probe else []
        parts += [f"against {block.against}"] if several_against and block.against else []
        titles.append(", ".join(part for part in parts if part))
    return titles


def _place(row: dict[str, Any]) -> tuple[str, Place]:
    site = row["site"] or ""
    numbered, circuit = _NUMBERED.search(site), _CIRCUIT.search(site)
    # By the number in the site and not by the column: `residual.3` is what layer 2 hands on, and is shown as 3.
    layer = int(numbered[2]) if numbered else row["layer"]
    head = int(circuit[2]) if circuit else row["head"]
    return _CIRCUIT.sub(r".\1.*", _NUMBERED.sub(r"\1.*", site)), (layer, head)


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if there else None
