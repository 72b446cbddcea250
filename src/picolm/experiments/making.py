"""Making the runs of a plan: what is missing is begun, what was interrupted goes on, what is finished is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from picolm.config.loading import build_config, config_hash
from picolm.config.schema import Config
from picolm.config.yaml12 import parse_yaml, to_yaml
from picolm.errors import PicoLMError
from picolm.experiments.design import PlannedRun
from picolm.experiments.findings import State
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.launching import Handle, Job, Launcher
from picolm.runs.durable import explained, make_parents, write_text

_POLL_SECONDS = 0.2


class Watcher(Protocol):
    """Who is told while runs are made."""

    def began(self, run: PlannedRun, *, anew: bool) -> None:
        """A process was started for a run: from its beginning, or to go on with it."""

    def waits(self, run: PlannedRun) -> None:
        """A run is being made by a process that was not started here; it is waited for."""

    def ended(self, run: PlannedRun, state: State, log: Path) -> None:
        """The process of a run came to an end."""

    def looked(self, running: Sequence[PlannedRun], left: int) -> None:
        """Some time has passed."""


class Stop(Protocol):
    """Tells whether the user wants out."""

    @property
    def signal(self) -> object | None:
        """The signal that came; None where none did."""


class Maker:
    """Makes runs of one experiment, some at the same time. A run that fails does not stop the others."""

    def __init__(
        self,
        folder: ExperimentFolder,
        launcher: Launcher,
        command: Callable[[PlannedRun], Sequence[str]],
        *,
        at_once: int,
        watcher: Watcher,
        stop: Stop,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Take note of how runs are made.

        Args:
            folder: the experiment, locked.
            launcher: starts processes.
            command: what makes a run, or goes on with it.
            at_once: how many runs at the same time.
            watcher: is told.
            stop: ends it early; processes are then asked to save and end, and waited for.
            environment: variables of the processes.
        """
        self._folder, self._launcher, self._command = folder, launcher, command
        self._at_once, self._watcher, self._stop = at_once, watcher, stop
        self._environment = dict(environment or {})
        self._handles: dict[str, Handle] = {}
        self._foreign: set[str] = set()

    def make(self, runs: Sequence[PlannedRun]) -> dict[str, State]:
        """Make runs that are not finished, in this order; each that fails is left for the next time.

        Returns:
            How far each run is, by name.

        Raises:
            PicoLMError: a process cannot be started, or a file cannot be written.
        """
        known = {run.name: run for run in runs}
        left = [run for run in runs if not self._is_finished(run)]
        try:
            self._attach(left)
            while (left or self._handles or self._foreign) and self._stop.signal is None:
                self._collect(known)
                self._fill(left)
                active = [known[name] for name in (*self._handles, *self._foreign)]
                self._watcher.looked(active, len(left))
                if active:
                    time.sleep(_POLL_SECONDS)
        finally:
            self._stop_all(known)
        launches = self._folder.launches()
        return {run.name: self._folder.state(run, launches) for run in runs}

    def _is_finished(self, run: PlannedRun) -> bool:
        settle(self._folder, run)
        return self._folder.state(run, []) == "finished"

    def _attach(self, left: list[PlannedRun]) -> None:
        """Find again what a launcher still has in its queue from before."""
        for line in self._folder.launches():
            if line["event"] == "started":
                waiting = next((run for run in left if run.name == line["run"]), None)
                handle = None if waiting is None else self._launcher.attach(line.get("facts", {}))
                if waiting is not None and handle is not None and handle.code() is None:
                    left.remove(waiting)
                    self._handles[waiting.name] = handle
                    self._watcher.waits(waiting)

    def _collect(self, known: Mapping[str, PlannedRun]) -> None:
        for name, handle in list(self._handles.items()):
            code = handle.code()
            if code is not None:
                del self._handles[name]
                self._note_end(known[name], code)
        for name in list(self._foreign):
            state = self._folder.state(known[name])
            if state != "running":
                self._foreign.remove(name)
                self._watcher.ended(known[name], state, self._folder.log_path(name))

    def _fill(self, left: list[PlannedRun]) -> None:
        while left and len(self._handles) + len(self._foreign) < self._at_once:
            run = left.pop(0)
            if self._folder.state(run) == "running":
                self._foreign.add(run.name)
                self._watcher.waits(run)
            else:
                self._start(run)

    def _start(self, run: PlannedRun) -> None:
        anew = self._folder.run(run.name) is None
        job = Job(run.name, self._command(run), Path.cwd(), self._folder.log_path(run.name), self._environment)
        handle = self._launcher.start(job)
        self._handles[run.name] = handle
        self._folder.note("started", run.name, anew=anew, facts=dict(handle.facts()))
        self._watcher.began(run, anew=anew)

    def _stop_all(self, known: Mapping[str, PlannedRun]) -> None:
        if self._launcher.outlives:
            return
        for handle in self._handles.values():
            handle.stop()
        while self._handles:
            self._collect(known)
            if self._handles:
                time.sleep(_POLL_SECONDS)

    def _note_end(self, run: PlannedRun, code: int) -> None:
        self._folder.note("ended", run.name, code=code)
        self._watcher.ended(run, self._folder.state(run), self._folder.log_path(run.name))


def settle(folder: ExperimentFolder, run: PlannedRun) -> None:
    """Write the configuration of a run; what stands there with another one makes room, and what fits comes back.

    Raises:
        PicoLMError: a file cannot be written, or the run of another configuration is being made.
    """
    path, wanted = folder.config_path(run.name), config_hash(run.config)
    there = _written(path)
    if there is not None and config_hash(there) != wanted:
        _put_aside(folder, run, there)
    former = folder.path / "superseded" / f"{run.name}.{wanted[:12]}"
    if former.is_dir() and not folder.run_path(run.name).exists():
        with explained(former):
            make_parents(folder.run_path(run.name))
            former.rename(folder.run_path(run.name))
    if there is None or config_hash(there) != wanted:
        with explained(path):
            make_parents(path)
        write_text(path, to_yaml(run.config.model_dump(mode="json")))


def _written(path: Path) -> Config | None:
    try:
        return build_config(parse_yaml(path.read_text(encoding="utf-8"), origin=str(path)))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise PicoLMError(f"{path} cannot be read: {error}") from error


def _put_aside(folder: ExperimentFolder, run: PlannedRun, former: Config) -> None:
    """Move a run that the plan no longer has; nothing is removed."""
    place = folder.run_path(run.name)
    if not place.exists():
        return
    if folder.state(run) == "running":
        raise PicoLMError(f"{place} is being made with the plan as it was: stop that process first")
    aside = folder.path / "superseded" / f"{run.name}.{config_hash(former)[:12]}"
    if aside.exists():
        raise PicoLMError(f"{aside} is there already: move it, so that {place} can take its place")
    with explained(aside):
        make_parents(aside)
        place.rename(aside)
