"""Calibration: short runs in a temporary directory, as processes like those of the experiment, show what runs take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from picolm.config import schema
from picolm.config.yaml12 import to_yaml
from picolm.data.preparation import Progress
from picolm.errors import PicoLMError, to_standard_error
from picolm.experiments.calibration import Layout, Reading, costing_of, events_wanted, layout, short
from picolm.experiments.costing import Costing, Event, Part
from picolm.experiments.launching import available_cores, thread_environment
from picolm.interventions.loading import Trust, load_interventions
from picolm.runs.attempt import describe_attempt
from picolm.runs.digest import sha256_of_json
from picolm.runs.directory import RunDirectory
from picolm.runs.durable import explained, make_parents, write_json
from picolm.training.numerics import choose_device
from picolm.training.state import STATE

CALIBRATIONS = Path(".picolm/calibrations")
FORMAT = 1
START_SECONDS = 12.0
"""What a short run takes beside its steps, to say beforehand how long a calibration will be."""
_POLL_SECONDS = 0.05
_SCHEDULE = ("every", "per_doubling", "at")


@dataclass(frozen=True, slots=True)
class Cell:
    """An arm at a size, to be measured.

    Attributes:
        name: for the user.
        config: of one of its runs.
        rough: what a bare forecast says of it.
        first: the step at which its runs begin.
        trusted: interventions outside of PicoLM whose code may run.
        may_do_without: whether it may be measured without its interventions, where a short run with them fails.
    """

    name: str
    config: schema.Config
    rough: Costing
    first: int
    trusted: Sequence[str]
    may_do_without: bool = True

    @property
    def events(self) -> frozenset[Event]:
        """What its short run is to show."""
        return events_wanted(self.config, self.first)

    @property
    def layout(self) -> Layout:
        """The steps of its short run."""
        return layout(self.events, self.rough.step_seconds)

    @property
    def seconds(self) -> float:
        """About how long its short run takes."""
        return START_SECONDS + self.layout.steps * self.rough.step_seconds


def calibrate(
    cells: Sequence[Cell],
    *,
    at_once: int,
    progress: Progress | None = None,
    tell: Callable[[int, float], None] = lambda runs, seconds: None,
    folder: Path = CALIBRATIONS,
) -> list[Costing]:
    """Measure what runs of some arms and sizes take on this machine; what was measured before is read.

    Args:
        cells: in the order of the answer.
        at_once: how many processes compute at the same time, as in the experiment.
        progress: is told of the steps of each short run.
        tell: is told, before anything is measured, how many short runs there are to be and about how long they take.
        folder: where the answers are kept.

    Raises:
        PicoLMError: a short run failed.
    """
    machine = _machine(at_once)
    places = [folder / f"{_key(cell, machine)}.json" for cell in cells]
    known = {place: _read(place) for place in places}
    missing = {place: cell for place, cell in zip(places, cells, strict=True) if known[place] is None}
    if missing:
        tell(len(missing), sum(cell.seconds for cell in missing.values()))
    for place, cell in missing.items():
        make_parents(place)
        costing = _of_cell(cell, at_once, progress, folder)
        write_json(place, {"format": FORMAT, "cell": cell.name, "machine": machine, "costing": costing.plain()})
        known[place] = costing
    found = [known[place] for place in places]
    return [costing for costing in found if costing is not None]


def _machine(at_once: int) -> dict[str, Any]:
    """All beside the configuration that decides how long a step takes."""
    facts = describe_attempt(None)
    threads = {**os.environ, **thread_environment(at_once)}.get("OMP_NUM_THREADS")
    there = {key: facts[key] for key in ("cpu", "picolm", "packages", "platform")}
    return {**there, "cores": available_cores(), "threads": threads, "at_once": at_once}


def _key(cell: Cell, machine: dict[str, Any]) -> str:
    """Hash of what a calibration is about: not seeds or numbers of steps, but the kinds of what happens at them."""
    values = cell.config.model_dump(mode="json", exclude={"seeds", "schedule"})
    del values["training"]["steps"]
    scheduled = [values["validation"], values["capture"], values["evaluation"], *values["checkpoints"].values()]
    for section in scheduled:
        for key in _SCHEDULE if isinstance(section, dict) else ():
            del section[key]
    del values["checkpoints"]["keep_states"]
    # Its numbers cost nothing, and are what is tuned most.
    values["optimizer"] = values["optimizer"]["kind"]
    config = cell.config
    at_start = [
        schedule.includes(0) and cell.first == 0
        for schedule in (config.validation, config.capture, config.evaluation, config.checkpoints.model)
    ]
    loaded = load_interventions(config.interventions, Trust(cell.trusted))
    return sha256_of_json(
        {
            "config": values,
            "events": sorted(cell.events),
            "at_start": at_start,
            "code": [item.sha256 for item in loaded],
            "device": str(choose_device(config.training.device)),
            "machine": machine,
        }
    )


def _read(place: Path) -> Costing | None:
    """What was measured; None where nothing readable is there: then it is measured again."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        content = json.loads(place.read_bytes())
        if content["format"] == FORMAT:
            return Costing.of(content["costing"])
    return None


def _of_cell(cell: Cell, at_once: int, progress: Progress | None, folder: Path) -> Costing:
    """What a short run shows; without its interventions where these allow none so short."""
    try:
        return _measured(cell, at_once, progress, folder)
    except PicoLMError as error:
        if not cell.config.interventions or not cell.may_do_without:
            raise
        to_standard_error(f"'{cell.name}' is measured without its interventions: {error}")
    bare = cell.config.model_copy(update={"interventions": ()})
    return _measured(replace(cell, config=bare), at_once, progress, folder)


def _measured(cell: Cell, at_once: int, progress: Progress | None, beside: Path) -> Costing:
    laid = cell.layout
    config = short(cell.config, laid, cell.first)
    # On the disk of the experiment: the usual place of temporary files may have no room for models.
    with explained(beside), TemporaryDirectory(prefix="short-", dir=beside) as place:
        folder = Path(place)
        (folder / "run.yaml").write_text(to_yaml(config.model_dump(mode="json")), encoding="utf-8")
        names = [f"short{number}" for number in range(at_once)]
        with _processes(cell, folder, names) as processes:
            walls = _awaited(cell, folder, names, processes, laid.steps, progress)
        readings = [
            _reading(RunDirectory.open(folder / "runs" / name), wall) for name, wall in zip(names, walls, strict=True)
        ]
    return costing_of(config, readings, cell.rough.flops_per_token)


@contextmanager
def _processes(cell: Cell, folder: Path, names: Sequence[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The short runs, begun at the same time; ended with the context, also when the user has had enough."""
    uses = {item.use for item in cell.config.interventions}
    named = [word for use in cell.trusted if use in uses for word in ("--with", use)]
    command = [sys.executable, "-m", "picolm", "train", str(folder / "run.yaml"), "--runs-dir", str(folder / "runs")]
    environment = {**os.environ, **thread_environment(len(names))}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name in names:
            with (folder / f"{name}.txt").open("wb") as printed:
                process = subprocess.Popen(
                    [*command, "--name", name, *named],
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    env=environment,
                )
            started.append(process)
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def _awaited(
    cell: Cell,
    folder: Path,
    names: Sequence[str],
    processes: Sequence[subprocess.Popen[bytes]],
    steps: int,
    progress: Progress | None,
) -> list[float]:
    """Seconds of each process, from its start to its end."""
    begun = time.perf_counter()
    walls: dict[str, float] = {}
    timings = RunDirectory(folder / "runs" / names[0]).timings_path
    told = -1
    while len(walls) < len(names):
        time.sleep(_POLL_SECONDS)
        for name, process in zip(names, processes, strict=True):
            code = process.poll()
            if code is not None and name not in walls:
                walls[name] = time.perf_counter() - begun
                if code:
                    raise PicoLMError(_failure(cell, folder / f"{name}.txt"))
        # What comes after the last step counts as one more.
        done = timings.read_bytes().count(b"\n") if timings.is_file() else 0
        done = min(done, steps) + (len(walls) == len(names))
        if progress is not None and done != told:
            told = done
            progress(f"calibration, {cell.name}", done, steps + 1)
    return [walls[name] for name in names]


def _failure(cell: Cell, printed: Path) -> str:
    lines = printed.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = next((line for line in reversed(lines) if line.startswith("picolm: ")), lines[-1] if lines else "no word")
    return (
        f"the short run that was to show what '{cell.name}' takes failed, saying: {said.removeprefix('picolm: ')}; "
        "--quick does without short runs"
    )


def _reading(run: RunDirectory, wall_seconds: float) -> Reading:
    total = sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
    parts: dict[Part, int] = {"model": 0, "state": 0, "capture": 0, "evaluation": 0, "line": 0, "validation": 0}
    for file in run.path.rglob("*"):
        part = _part(file.relative_to(run.path).parts)
        if part is not None and file.is_file():
            parts[part] += file.stat().st_size
    for line in run.log_path.read_bytes().splitlines(keepends=True):
        event = json.loads(line)["event"]
        parts["line" if event == "train" else "validation"] += len(line) if event in ("train", "validation") else 0
    return Reading(wall_seconds, run.timings, total - sum(parts.values()), parts)


def _part(place: Sequence[str]) -> Part | None:
    """Which kind of piece a file of a run belongs to; None: to what every run has once."""
    if place[0] == "checkpoints":
        return "state" if STATE in place else "model"
    if "eval" in place:
        return "evaluation"
    # Numbers that are computed at captures stand apart from them.
    stepwise = place[0] == "captures" and len(place) > 1 and place[1].startswith("step-")
    return "capture" if stepwise or place[0] == "metrics" else None
