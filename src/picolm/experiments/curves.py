"""Curves of runs: what a plan measures, step by step, read from a run directory, over steps, tokens, operations or time.

Logs and tables are read once for all quantities of a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from picolm.errors import PicoLMError, nearest
from picolm.experiments.quantity import Axis, Quantity
from picolm.model.sites import matching
from picolm.runs.directory import RunDirectory
from picolm.runs.evaluations import FOLDER as EVALUATIONS
from picolm.runs.evaluations import read_evaluations
from picolm.runs.log import read_log
from picolm.runs.tables import read_metrics


@dataclass(frozen=True, slots=True)
class Curve:
    """Values by step.

    Attributes:
        steps: ascending.
        values: one for each step; NaN where it was not finite.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, points: Iterable[tuple[int, float]]) -> Curve:
        """From (step, value) in any order; several values of a step are averaged."""
        by_step: dict[int, list[float]] = {}
        for step, value in points:
            by_step.setdefault(step, []).append(value)
        steps = sorted(by_step)
        return cls(tuple(steps), tuple(fmean(by_step[step]) for step in steps))


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a run.

    Attributes:
        value: it; where it is censored, how far the run went without reaching it.
        censored: whether the curve never reached what was asked for.
    """

    value: float
    censored: bool = False


class RunCurves:
    """The curves of one run."""

    def __init__(self, path: Path) -> None:
        """Open a run; nothing is read yet.

        Raises:
            PicoLMError: it is none.
        """
        self.path, self.run = path, RunDirectory.open(path)

    def curve(self, quantity: Quantity) -> Curve:
        """The curve of a quantity.

        Raises:
            PicoLMError: the run has nothing of the kind; the message names what is there.
        """
        if quantity.validation is not None:
            found = self._validation(quantity.validation, quantity.domain)
        elif quantity.logged is not None:
            found = self._logged(quantity.logged)
        elif quantity.evaluation is not None:
            found = self._evaluation(quantity)
        else:
            found = self._metric(quantity)
        return Curve.of(found)

    def number(self, quantity: Quantity) -> Number:
        """One number.

        Raises:
            PicoLMError: as `curve`; or there is nothing at the step that was asked for.
        """
        curve = self.curve(quantity)
        if quantity.at is not None:
            if quantity.at not in curve.steps:
                raise PicoLMError(
                    f"run {self.path} has no {quantity.curve} at step {quantity.at}; it has it at: {_some(curve.steps)}"
                )
            return Number(curve.values[curve.steps.index(quantity.at)])
        if quantity.reaches is not None:
            return self._reached(curve, quantity.reaches, quantity.over)
        if quantity.summary == "last":
            return Number(curve.values[-1])
        values = np.asarray(curve.values)
        if quantity.summary in ("area", "slope"):
            return Number(_along(np.asarray(self.axis(quantity.over, curve.steps)), values, quantity.summary))
        of = {"mean": np.mean, "minimum": np.min, "maximum": np.max}[quantity.summary]
        return Number(float(of(values)))

    def axis(self, over: Axis, steps: Sequence[int]) -> list[float]:
        """Where steps lie along an axis; between lines of the log, by interpolation.

        Raises:
            PicoLMError: the run does not say how long its steps took.
        """
        if over == "steps":
            return [float(step) for step in steps]
        if over == "seconds":
            lines = read_log(self.run.timings_path)
            if not lines:
                raise PicoLMError(f"run {self.path} does not say how long its steps took")
            known = [(line["step"], line["seconds"]) for line in lines]
        else:
            known = [(line["step"], line["tokens"]) for line in self._lines("train")]
        places = np.interp(steps, *zip((0, 0.0), *known, strict=True))
        return [float(place) * (self._operations if over == "flops" else 1.0) for place in places]

    @cached_property
    def _operations(self) -> float:
        """Operations per token, as they were forecast."""
        try:
            forecast = self.run.attempts[0]["forecast"]
            return float(forecast["flops"]) / float(forecast["tokens"])
        except (IndexError, KeyError, TypeError, ZeroDivisionError):
            raise PicoLMError(f"run {self.path} does not say how many operations it takes") from None

    def _validation(self, name: str, domain: str | None) -> list[tuple[int, float]]:
        lines = self._lines("validation")
        if not lines:
            raise PicoLMError(f"run {self.path} has no validation: it needs held-out text and validation.every or .at")
        if domain is None:
            lines = [line for line in lines if name in line or name == "perplexity"]
            of = [(line["step"], line[name] if name in line else math.exp(line["loss"])) for line in lines]
            if not of:
                raise PicoLMError(f"the validation of run {self.path} gives no {name}")
            return of
        domains = lines[-1].get("domains", {})
        if domain not in domains:
            raise PicoLMError(f"run {self.path} has no domain '{domain}'{nearest(domain, domains)}")
        return [(line["step"], line["domains"][domain][name]) for line in lines]

    def _logged(self, key: str) -> list[tuple[int, float]]:
        lines = self._lines("train")
        keys = {key for line in lines for key, value in line.items() if isinstance(value, int | float)}
        if key not in keys:
            raise PicoLMError(f"the log of run {self.path} has no '{key}'{nearest(key, sorted(keys))}")
        return [(line["step"], float(line[key])) for line in lines if key in line]

    def _evaluation(self, quantity: Quantity) -> list[tuple[int, float]]:
        rows = self._evaluations
        for field, wanted in (("task", quantity.evaluation), ("subset", quantity.subset), ("metric", quantity.score)):
            there = list(dict.fromkeys(row[field] for row in rows))
            rows = [row for row in rows if row[field] == wanted]
            if not rows:
                raise PicoLMError(f"run {self.path} has no evaluation of {field} '{wanted}'; it has: {_some(there)}")
        return [(row["step"], row["value"]) for row in rows if row["step"] is not None]

    def _metric(self, quantity: Quantity) -> list[tuple[int, float]]:
        assert quantity.site is not None
        rows = [row for row in self._metrics if row["metric"] == quantity.metric]
        if not rows:
            there = {row["metric"] for row in self._metrics}
            raise PicoLMError(
                f"run {self.path} has no metric '{quantity.metric}'{nearest(str(quantity.metric), there)}: "
                "name it in capture.metrics, or measure it with `picolm analyze`"
            )
        known = list(dict.fromkeys(row["site"] for row in rows if row["site"]))
        wanted = set(matching((quantity.site,), known, key="site", what=f"{quantity.metric} at"))
        rows = [row for row in rows if row["site"] in wanted]
        probes = {row["probe"] for row in rows if row["probe"] is not None}
        if quantity.probe is None and len(probes) > 1:
            raise PicoLMError(f"{quantity.metric} was measured on several batches: say `probe`, of {_some(sorted(probes))}")
        if quantity.probe is not None and quantity.probe not in probes:
            raise PicoLMError(f"run {self.path} has no {quantity.curve}; it has it on: {_some(sorted(probes))}")
        return [(row["step"], row["value"]) for row in rows if quantity.probe in (None, row["probe"])]

    def _reached(self, curve: Curve, value: float, over: Axis) -> Number:
        """Where the curve first comes to a value, on the straight line between the points around it."""
        places, values = self.axis(over, curve.steps), curve.values
        falls = values[0] > value
        for at, here in enumerate(values):
            if math.isfinite(here) and (here <= value if falls else here >= value):
                if at == 0:
                    return Number(places[0])
                before = values[at - 1]
                share = (before - value) / (before - here) if math.isfinite(before) else 1.0
                return Number(places[at - 1] + share * (places[at] - places[at - 1]))
        return Number(places[-1], censored=True)

    def _lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self._log if line.get("event") == event]

    @cached_property
    def _log(self) -> list[dict[str, Any]]:
        return read_log(self.run.log_path)

    @cached_property
    def _evaluations(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = read_evaluations(self.path / EVALUATIONS).to_pylist()
        return rows

    @cached_property
    def _metrics(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = read_metrics(self.path / "metrics").to_pylist()
        return rows


def _along(places: np.ndarray[Any, Any], values: np.ndarray[Any, Any], summary: str) -> float:
    """The mean height over an axis by the trapezoid rule, or the slope of the least-squares line."""
    if len(places) < 2 or places[-1] == places[0]:
        return float(values[0]) if summary == "area" else math.nan
    if summary == "area":
        return float(np.trapezoid(values, places) / (places[-1] - places[0]))
    centred = places - places.mean()
    return float((centred * (values - values.mean())).sum() / (centred**2).sum())


def _some(names: Sequence[object]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "") if shown else "nothing"
