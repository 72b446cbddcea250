"""What became of each point that was proposed, kept line by line so that a search that was killed goes on the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from picolm.errors import PicoLMError
from picolm.experiments.space import Point
from picolm.runs.log import LogWriter, read_lines

TrialState = Literal["proposed", "finished", "failed"]


@dataclass(frozen=True, slots=True)
class Trial:
    """A point, and what became of it.

    Attributes:
        number: from 1 on, in the order of proposals.
        point: the values.
        state: not known yet; measured; no number came of it.
        value: what was measured; None unless it is finished.
    """

    number: int
    point: Point
    state: TrialState = "proposed"
    value: float | None = None


@dataclass(frozen=True, slots=True)
class TrialFile:
    """`trials.jsonl` of an experiment: a line for each proposal, and one for each end.

    Attributes:
        path: the file.
    """

    path: Path

    def read(self) -> tuple[Trial, ...]:
        """All trials by number; none where the file is not there.

        Raises:
            PicoLMError: it was changed by hand, and does not tell what happened.
        """
        found: dict[int, Trial] = {}
        for place, (_, line) in enumerate(read_lines(self.path), start=1):
            try:
                trial = _read(line, found)
            except (KeyError, TypeError, ValueError) as error:
                raise PicoLMError(f"{self.path}, line {place} tells of no trial: {error}") from None
            found[trial.number] = trial
        return tuple(found.values())

    def propose(self, points: list[Point]) -> tuple[Trial, ...]:
        """Keep points before the first of their runs begins."""
        first = len(self.read()) + 1
        trials = tuple(Trial(number, point) for number, point in enumerate(points, start=first))
        self._append([{"trial": one.number, "state": one.state, "point": one.point} for one in trials])
        return trials

    def end(self, number: int, value: float | None) -> Trial:
        """Keep what came of a point.

        Args:
            number: of the trial.
            value: what was measured; None, or a number that is not finite, means that it failed.

        Raises:
            PicoLMError: there is no such trial.
        """
        there = {trial.number: trial for trial in self.read()}
        if number not in there:
            raise PicoLMError(f"{self.path} has no trial {number}: it has {len(there)}")
        trial = ended(there[number], value)
        self._append([{"trial": number, "state": trial.state, "value": trial.value}])
        return trial

    def _append(self, lines: list[Mapping[str, Any]]) -> None:
        time = datetime.now(UTC).isoformat(timespec="seconds")
        with LogWriter(self.path) as writer:
            for line in lines:
                writer.append({**line, "time": time})


def ended(trial: Trial, value: float | None) -> Trial:
    """A trial with what came of it; nothing, or a number that is not finite, is a failure."""
    if value is None or not math.isfinite(value):
        return Trial(trial.number, trial.point, "failed")
    return Trial(trial.number, trial.point, "finished", value)


def _read(line: Mapping[str, Any], found: Mapping[int, Trial]) -> Trial:
    number, state = line["trial"], line["state"]
    if state == "proposed":
        if number != len(found) + 1:
            raise ValueError(f"trial {number} comes where {len(found) + 1} is next")
        if not isinstance(line["point"], dict):
            raise TypeError("its point is none")
        return Trial(number, line["point"])
    if state not in ("finished", "failed"):
        raise ValueError(f"its state is {state}")
    if number not in found:
        raise ValueError(f"trial {number} was never proposed")
    if state == "finished" and not isinstance(line["value"], int | float):
        raise TypeError("its value is no number")
    return ended(found[number], line["value"])
