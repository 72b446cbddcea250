"""What the runs of an experiment show: each is read once, for all numbers, curves and items that are wanted of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from picolm.config.loading import build_config, config_hash
from picolm.config.yaml12 import parse_yaml, to_yaml
from picolm.errors import PicoLMError
from picolm.experiments.curves import RunCurves
from picolm.experiments.design import PlannedRun
from picolm.experiments.findings import Cost, RunRecord, State
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.items import Items, items_of
from picolm.experiments.quantity import Axis, Number, Quantity
from picolm.experiments.statistics.curve import Curve
from picolm.runs.directory import RunDirectory
from picolm.runs.timings import total_seconds

CurveKey = tuple[str, Axis]
"""`Quantity.curve`, and the axis."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of every run.

    Attributes:
        numbers: by their words; those of predictions.
        curves: by their words and the axis, a quantity that has the curve.
    """

    numbers: Mapping[str, Quantity]
    curves: Mapping[CurveKey, Quantity] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observation:
    """One run, as far as it is.

    Attributes:
        record: its state, cost and numbers.
        curves: those that it has.
        past: of a fork, the curves of its ancestors.
        items: by the words of the number, of evaluations whose task keeps them.
        diverged: whether its training loss is not finite at its end.
    """

    record: RunRecord
    curves: Mapping[CurveKey, Curve]
    past: Mapping[CurveKey, Curve]
    items: Mapping[str, Items]
    diverged: bool = False


class Observer:
    """Reads runs of one experiment.

    Args:
        folder: of the experiment.
        wanted: of every run.
    """

    def __init__(self, folder: ExperimentFolder, wanted: Wanted) -> None:
        self._folder, self._wanted = folder, wanted
        self._launches = folder.launches()
        self._only_version = len(folder.versions()) < 2
        self._ancestors: dict[Path, RunCurves] = {}

    def observe(self, run: PlannedRun) -> Observation:
        """Read one run; one that did not begin, or is damaged, has no values and says why."""
        if not self._is_of_plan(run):
            return self._unread(
                run, "waiting", ["what stands in its place was made with an earlier version of the plan"]
            )
        state = self._folder.state(run, self._launches)
        notes = [] if state != "failed" else [self._failure(run.name)]
        try:
            directory = self._folder.run(run.name)
            if directory is None:
                return self._unread(run, state, notes)
            return self._read(run, state, RunCurves(directory.path, self._ancestors), notes)
        except PicoLMError as error:
            return self._unread(run, state, [*notes, str(error)])
        except (KeyError, TypeError, ValueError) as error:
            # One file that somebody changed must not hide all other runs.
            return self._unread(run, state, [*notes, f"its files were changed: {error!r} is wrong in a log or table"])

    def _is_of_plan(self, run: PlannedRun) -> bool:
        """Whether what stands in the place of a run, if anything does, was made with the configuration of the plan."""
        if self._only_version:
            return True
        path, values = self._folder.config_path(run.name), run.config.model_dump(mode="json")
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return True
        # The text is compared first: to read it takes ten times as long.
        return text == to_yaml(values) or config_hash(build_config(parse_yaml(text, origin=str(path)))) == config_hash(
            run.config
        )

    def _unread(self, run: PlannedRun, state: State, notes: Sequence[str]) -> Observation:
        return Observation(_record(run, state, notes=tuple(notes)), {}, {}, {})

    def _read(self, run: PlannedRun, state: State, curves: RunCurves, notes: list[str]) -> Observation:
        values: dict[str, Number] = {}
        items: dict[str, Items] = {}
        for words, quantity in self._wanted.numbers.items():
            try:
                number = curves.number(quantity)
                if not _settled(quantity, number, state):
                    continue
                values[words] = number
                found = self._items(curves, quantity, number)
                items |= {} if found is None else {words: found}
            except PicoLMError as error:
                # Of a run that is on its way it may come yet.
                notes += [str(error)] if state == "finished" and str(error) not in notes else []
        diverged = curves.diverged_at
        if diverged is not None:
            notes.append(f"the training loss is not finite from step {diverged} on")
        cost = Cost(_flops(curves, run), self._seconds(curves.run), _disk_bytes(curves.path))
        record = _record(run, state, curves.last_step, cost, values, tuple(notes))
        own, past = self._curves(curves)
        return Observation(record, own, past, items, diverged is not None)

    def _items(self, curves: RunCurves, quantity: Quantity, number: Number) -> Items | None:
        if quantity.evaluation is None or quantity.reaches is not None:
            return None
        if quantity.at is None and quantity.summary != "last":
            return None
        step = int(curves.curve(quantity).x[-1]) if quantity.at is None else quantity.at
        return items_of(curves.path, quantity, step, number.value)

    def _curves(self, curves: RunCurves) -> tuple[dict[CurveKey, Curve], dict[CurveKey, Curve]]:
        own: dict[CurveKey, Curve] = {}
        past: dict[CurveKey, Curve] = {}
        for key, quantity in self._wanted.curves.items():
            try:
                own[key] = curves.curve(quantity, key[1])
            except PicoLMError:
                # A note on the number says so already; curves beyond those are shown where they are.
                continue
            before = curves.past(quantity, key[1])
            past |= {} if before is None else {key: before}
        return own, past

    def _failure(self, run: str) -> str:
        codes = [line["code"] for line in self._launches if line["run"] == run and line["event"] == "ended"]
        return f"it ended with code {codes[-1]}: see {self._folder.log_path(run)}"

    def _seconds(self, run: RunDirectory) -> float:
        """Of its processes from start to end; where an end was not noted, at least what its own clock says."""
        begun: datetime | None = None
        seconds = 0.0
        for line in self._launches:
            if line["run"] != run.path.name or line["event"] not in ("started", "ended"):
                continue
            time = datetime.fromisoformat(line["time"])
            if line["event"] == "ended" and begun is not None:
                seconds += (time - begun).total_seconds()
            begun = time if line["event"] == "started" else None
        return max(seconds, total_seconds(run.timings) or 0.0)


def _record(
    run: PlannedRun,
    state: State,
    steps: int = 0,
    cost: Cost | None = None,
    values: Mapping[str, Number] | None = None,
    notes: tuple[str, ...] = (),
) -> RunRecord:
    planned = run.config.training.steps
    return RunRecord(run.name, run.arm, run.size, run.repetition, state, steps, planned, cost, values or {}, notes)


def _settled(quantity: Quantity, number: Number, state: State) -> bool:
    """Whether a number will not change while its run goes on."""
    return state == "finished" or quantity.at is not None or (quantity.reaches is not None and not number.censored)


def _flops(curves: RunCurves, run: PlannedRun) -> float:
    """What was forecast for all steps, for those that the run made itself."""
    attempts: list[dict[str, Any]] = curves.run.attempts
    forecast = attempts[0].get("forecast") if attempts else None
    if not isinstance(forecast, dict):
        return 0.0
    return float(forecast["flops"]) * (curves.last_step - curves.first_step) / run.config.training.steps


def _disk_bytes(path: Path) -> int:
    total = 0
    for file in path.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            # The run goes on, and removes what is superseded.
            continue
    return total
