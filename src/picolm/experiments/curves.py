"""Curves of runs: what a plan measures, step by step, read from a run directory, over steps, tokens, FLOPs or seconds.

Logs and tables are read once for all quantities of a run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from picolm.errors import PicoLMError
from picolm.experiments.points import Points, RunPoints, some
from picolm.experiments.quantity import Axis, Number, Quantity
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.reach import first_reach
from picolm.experiments.statistics.seeds import FloatArray
from picolm.runs.directory import RunDirectory
from picolm.runs.lineage import parent_of
from picolm.runs.log import read_log


class RunCurves:
    """The curves of one run.

    A fork has curves of its own, from the step at which it was branched on; what lies before is its past.

    Args:
        path: the run directory; nothing is read yet.
        ancestors: of other runs, so that a parent of many is read once; those of this run are added.

    Raises:
        PicoLMError: it is none.
    """

    def __init__(self, path: Path, ancestors: dict[Path, RunCurves] | None = None) -> None:
        self.path, self.run = path, RunDirectory.open(path)
        self._ancestors = {} if ancestors is None else ancestors
        self._measured = RunPoints(self.run)

    def curve(self, quantity: Quantity, over: Axis = "steps") -> Curve:
        """The curve of a quantity; of a fork, from where the arms part.

        Args:
            quantity: whose summary does not matter.
            over: the axis.

        Raises:
            PicoLMError: the run has nothing of the kind; the message names what is there.
        """
        own = self._along(self._measured.of(quantity), over)
        before = self.past(quantity, over)
        # Where both have the same past, the point at which they part belongs to the curve of each.
        if before is None or before.x[-1] != self._beginning(over) or own.x[0] <= before.x[-1]:
            return own
        return Curve.of([before.x[-1], *own.x], [before.y[-1], *own.y])

    def past(self, quantity: Quantity, over: Axis = "steps") -> Curve | None:
        """Of a fork, the curve of its ancestors up to where it was branched.

        Returns:
            None for a run that is no fork, or whose ancestors are gone or have nothing of the kind.
        """
        if self._parent is None:
            return None
        try:
            whole = self._parent.stitched(quantity, over)
        except PicoLMError:
            return None
        shared = whole.x <= self._beginning(over)
        return Curve.of(whole.x[shared], whole.y[shared]) if shared.any() else None

    def stitched(self, quantity: Quantity, over: Axis = "steps") -> Curve:
        """The past of a fork and its own curve in one; of a run that is no fork, its curve.

        Raises:
            PicoLMError: as `curve`.
        """
        own, before = self.curve(quantity, over), self.past(quantity, over)
        if before is None:
            return own
        earlier = before.x < own.x[0]
        return Curve.of([*before.x[earlier], *own.x], [*before.y[earlier], *own.y])

    def number(self, quantity: Quantity) -> Number:
        """One number. Of a fork, what is `reached` may lie in its past, all else is of its own steps.

        Raises:
            PicoLMError: as `curve`; or there is nothing at the step that was asked for.
        """
        if quantity.reaches is not None:
            return self._reached(quantity, quantity.reaches)
        if quantity.at is not None:
            points = self._measured.of(quantity)
            if quantity.at not in points:
                raise PicoLMError(
                    f"run {self.path} has no {quantity.curve} at step {quantity.at}; it has it at: {some(points)}"
                )
            return Number(points[quantity.at])
        if quantity.summary in ("area", "slope"):
            curve = self.curve(quantity, quantity.over)
            with np.errstate(invalid="ignore"):
                return Number((_mean_height if quantity.summary == "area" else _slope)(curve))
        values = np.asarray(list(self._measured.of(quantity).values()))
        if quantity.summary == "last":
            return Number(float(values[-1]))
        with np.errstate(invalid="ignore"):
            of = {
                "mean": values.mean(),
                "minimum": values.min(),
                "maximum": values.max(),
                # 0 of a curve that never falls; however far it rises elsewhere.
                "descent": -np.minimum(np.diff(values), 0.0).sum(),
            }
            return Number(float(of[quantity.summary]))

    @property
    def last_step(self) -> int:
        """The last step whose line of training is in the log; of a fork, that at which it began where there is none."""
        lines = self._measured.lines("train")
        return int(lines[-1]["step"]) if lines else self.first_step

    @property
    def first_step(self) -> int:
        """The step at which the run began: 0, or that at which a fork was branched."""
        return self._branched or 0

    @property
    def diverged_at(self) -> int | None:
        """From which logged step on the training loss is not finite; None where the last one is finite."""
        found = None
        for line in reversed(self._measured.lines("train")):
            if math.isfinite(line["loss"]):
                break
            found = int(line["step"])
        return found

    def axis(self, over: Axis, steps: Sequence[int]) -> list[float]:
        """Where steps lie along an axis; between lines of the log, by interpolation.

        Seconds are of all attempts, with the work that was lost between them; those of a fork count on from its parent.

        Raises:
            PicoLMError: the run does not say how long its steps took, or how many operations.
        """
        if over == "steps":
            return [float(step) for step in steps]
        begin, place = self._branched or 0, self._beginning(over)
        if over == "seconds":
            known = [(step, place + seconds) for step, seconds in self._clock]
        else:
            unit = self._operations if over == "flops" else 1.0
            before = 0.0 if self._parent is None else self._parent.axis("tokens", [begin])[0]
            known = [(line["step"], place + unit * (line["tokens"] - before)) for line in self._measured.lines("train")]
        if not known:
            raise PicoLMError(f"run {self.path} does not say how many {over} its steps took")
        known_steps, places = zip((begin, place), *known, strict=True)
        return [float(x) for x in np.interp(np.asarray(steps), np.asarray(known_steps), np.asarray(places))]

    def _reached(self, quantity: Quantity, value: float) -> Number:
        curve = self.stitched(quantity, quantity.over)
        found = first_reach(curve, value, way="down" if curve.y[0] > value else "up")
        return Number(found.x, censored=not found.reached)

    def _along(self, points: Points, over: Axis) -> Curve:
        # Two steps at one place, as beyond the last line of the timings: the later one stands for both.
        by_place = dict(zip(self.axis(over, list(points)), points.values(), strict=True))
        return Curve.of(list(by_place), list(by_place.values()))

    def _beginning(self, over: Axis) -> float:
        """Where along an axis the run begins: 0, or where its parent was at that step."""
        if over == "steps":
            return float(self._branched or 0)
        if self._parent is None or self._branched is None:
            return 0.0
        return self._parent.axis(over, [self._branched])[0]

    @cached_property
    def _branched(self) -> int | None:
        origin = self.run.identity.get("parent")
        return int(origin["step"]) if isinstance(origin, dict) else None

    @cached_property
    def _parent(self) -> RunCurves | None:
        parent = parent_of(self.run)
        if parent is None:
            return None
        place = parent.path.resolve()
        if place not in self._ancestors:
            self._ancestors[place] = RunCurves(place, self._ancestors)
        return self._ancestors[place]

    @cached_property
    def _clock(self) -> list[tuple[int, float]]:
        """Seconds by step over all attempts; each counts from its own start, as `runs.timings.total_seconds` says."""
        known: list[tuple[int, float]] = []
        before = last = 0.0
        for line in read_log(self.run.timings_path):
            step, seconds = int(line["step"]), float(line["seconds"])
            if seconds <= last:
                before += last
            # Steps that a kill took back are made anew, later.
            while known and known[-1][0] >= step:
                known.pop()
            known.append((step, before + seconds))
            last = seconds
        return known

    @cached_property
    def _operations(self) -> float:
        """Operations per token, as they were forecast."""
        try:
            forecast = self.run.attempts[0]["forecast"]
            return float(forecast["flops"]) / float(forecast["tokens"])
        except (IndexError, KeyError, TypeError, ZeroDivisionError):
            raise PicoLMError(f"run {self.path} does not say how many operations it takes") from None


def _mean_height(curve: Curve) -> float:
    """By the trapezoid rule."""
    x: FloatArray = curve.x
    return float(curve.y[0]) if len(x) < 2 else float(np.trapezoid(curve.y, x) / (x[-1] - x[0]))


def _slope(curve: Curve) -> float:
    """Of the least-squares line; NaN of one point."""
    centred = curve.x - curve.x.mean()
    return float(centred @ (curve.y - curve.y.mean()) / (centred @ centred)) if len(curve.x) > 1 else math.nan
