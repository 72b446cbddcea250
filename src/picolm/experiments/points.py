"""What a run measured of a quantity, step by step: from its log, its tables of metrics and its evaluations.

Each is read once for all quantities of a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np

from picolm.analysis.updates import parse_delta
from picolm.errors import PicoLMError, nearest
from picolm.experiments.quantity import Quantity
from picolm.model.sites import matching
from picolm.runs.directory import RunDirectory
from picolm.runs.evaluations import FOLDER as EVALUATIONS
from picolm.runs.evaluations import read_evaluations
from picolm.runs.log import read_log
from picolm.runs.tables import read_metrics

Points = dict[int, float]
"""Values by step, ascending."""


class RunPoints:
    """What one run measured; of a fork, what it measured itself.

    Args:
        run: nothing is read yet.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run, self._path = run, run.path

    def of(self, quantity: Quantity) -> Points:
        """The values of a quantity by step.

        Args:
            quantity: whose summary does not matter.

        Raises:
            PicoLMError: the run has nothing of the kind; the message names what is there.
        """
        if quantity.validation is not None:
            return _averaged(self._validation(quantity.validation, quantity.domain))
        if quantity.logged is not None:
            return _averaged(self._logged(quantity.logged))
        return _averaged(self._evaluation(quantity) if quantity.evaluation is not None else self._metric(quantity))

    def _validation(self, name: str, domain: str | None) -> list[tuple[int, float]]:
        lines = self.lines("validation")
        if not lines:
            raise PicoLMError(f"run {self._path} has no validation: it needs held-out text and validation.every or .at")
        if domain is None:
            found = [(line["step"], _measure(line, name)) for line in lines]
        else:
            domains = lines[-1].get("domains", {})
            if domain not in domains:
                raise PicoLMError(f"run {self._path} has no domain '{domain}'{nearest(domain, domains)}")
            found = [(line["step"], _measure(line["domains"].get(domain, {}), name)) for line in lines]
        points = [(step, value) for step, value in found if value is not None]
        if not points:
            raise PicoLMError(f"the validation of run {self._path} gives no {name}")
        return points

    def _logged(self, key: str) -> list[tuple[int, float]]:
        lines = self.lines("train")
        keys = {key for line in lines for key, value in line.items() if isinstance(value, int | float)}
        if key not in keys:
            raise PicoLMError(f"the log of run {self._path} has no '{key}'{nearest(key, sorted(keys))}")
        return [(line["step"], float(line[key])) for line in lines if key in line]

    def _evaluation(self, quantity: Quantity) -> list[tuple[int, float]]:
        rows = self._evaluations
        for field, wanted in (("task", quantity.evaluation), ("subset", quantity.subset), ("metric", quantity.score)):
            there = list(dict.fromkeys(row[field] for row in rows))
            rows = [row for row in rows if row[field] == wanted]
            if not rows:
                raise PicoLMError(f"run {self._path} has no evaluation of {field} '{wanted}'; it has: {some(there)}")
        points = [(row["step"], row["value"]) for row in rows if row["step"] is not None]
        steps = [step for step, _ in points]
        if twice := next((step for step in steps if steps.count(step) > 1), None):
            raise PicoLMError(
                f"run {self._path} was evaluated twice at step {twice} on {quantity.evaluation}, of other data or "
                f"versions: remove the parts that are not meant from {self._path / EVALUATIONS}"
            )
        return points

    def _metric(self, quantity: Quantity) -> list[tuple[int, float]]:
        assert quantity.site is not None
        rows = [row for row in self._metrics if row["metric"] == quantity.metric]
        if not rows:
            there = {row["metric"] for row in self._metrics}
            raise PicoLMError(
                f"run {self._path} has no metric '{quantity.metric}'{nearest(str(quantity.metric), there)}: "
                "name it in capture.metrics, or measure it with `picolm analyze`"
            )
        known = list(dict.fromkeys(row["site"] for row in rows if row["site"]))
        wanted = set(matching((_named(quantity.site),), known, key="site", what=f"{quantity.metric} at"))
        rows = [row for row in rows if row["site"] in wanted]
        probes = {row["probe"] for row in rows if row["probe"] is not None}
        if quantity.probe is None and len(probes) > 1:
            raise PicoLMError(
                f"{quantity.metric} was measured on several batches: say `probe`, of {some(sorted(probes))}"
            )
        if quantity.probe is not None and quantity.probe not in probes:
            raise PicoLMError(f"run {self._path} has no {quantity.curve}; it has it on: {some(sorted(probes))}")
        return [(row["step"], row["value"]) for row in rows if quantity.probe in (None, row["probe"])]

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log about one event, in order."""
        return self._log.get(event, [])

    @cached_property
    def _log(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for line in read_log(self._run.log_path):
            found.setdefault(str(line.get("event")), []).append(line)
        return found

    @cached_property
    def _evaluations(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = read_evaluations(self._path / EVALUATIONS).to_pylist()
        return rows

    @cached_property
    def _metrics(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = read_metrics(self._path / "metrics").to_pylist()
        return rows


def _averaged(points: Iterable[tuple[int, float]]) -> Points:
    """From (step, value) in any order; several values of a step are of several sites, and are averaged."""
    by_step: dict[int, list[float]] = {}
    for step, value in points:
        by_step.setdefault(step, []).append(value)
    return {step: sum(by_step[step]) / len(by_step[step]) for step in sorted(by_step)}


def _measure(line: dict[str, Any], name: str) -> float | None:
    """A figure of a line of validation; its perplexity follows from its loss."""
    if name in line:
        return float(line[name])
    if name != "perplexity" or "loss" not in line:
        return None
    with np.errstate(over="ignore"):
        return float(np.exp(line["loss"]))


def some(names: Iterable[object]) -> str:
    """The first names of what is there, for errors."""
    shown = [str(name) for name in names]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "") if shown else "nothing"


def _named(site: str) -> str:
    """A pattern as tables have it: an update with both of its moments."""
    update = parse_delta(site)
    return site if update is None else update[1].name(update[0])
