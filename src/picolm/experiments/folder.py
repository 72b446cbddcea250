"""An experiment on disk: every version of its plan, its runs, and how they were started.

=====================  =================================================================================
`plans.jsonl`          a line for each version of the plan: its hash, when, by which PicoLM, what changed
`plans/HASH.json`      that version with the whole configuration that its runs begin with
`plans/HASH.yaml`      the same as its author wrote it
`configs/RUN.yaml`     the whole configuration of a run
`runs/RUN`             the run
`logs/RUN.txt`         what its processes printed
`launches.jsonl`       starts and ends of processes
`choices.json`         what a search chose
`trials-HASH.jsonl`    points that Optuna proposed, and what became of them
`forecast.json`        what all runs together were expected to take, before the first
`superseded/RUN.HASH`  runs whose configuration is no longer in the plan: moved, never removed
`report.html`          the page
=====================  =================================================================================

The first line of `plans.jsonl` is written before the first run. Another version after a run had begun is a deviation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from picolm.config.difference import ABSENT, difference
from picolm.config.loading import build_config, config_hash
from picolm.config.schema import Config
from picolm.errors import PicoLMError, nearest
from picolm.experiments.design import Choice, Design, Paces, PlannedRun
from picolm.experiments.findings import Cost, PlanVersion, State
from picolm.experiments.plan import Plan
from picolm.experiments.trials import TrialFile
from picolm.runs.digest import sha256_of_json
from picolm.runs.directory import RUN_FILE, RunDirectory
from picolm.runs.durable import explained, write_json, write_text
from picolm.runs.ledger import read_ledger
from picolm.runs.lock import is_held
from picolm.runs.log import LogWriter, read_log
from picolm.runs.software import picolm_version

PLANS = "plans.jsonl"
_NOT_SCIENCE = {"at_once", "hours", "slurm"}
_STOPPED = (0, 130, 143, -2, -15)
"""Codes of a process that came to its end, or was asked to stop."""


def plan_digest(design: Design) -> str:
    """SHA-256 of a plan and of all configurations that it stands for, so that a changed preset shows too."""
    return _digest_of(_science(design))


def _digest_of(science: Mapping[str, Any]) -> str:
    # In its own order: the first arm is the baseline.
    return sha256_of_json({**science, "plan": json.dumps(science["plan"])})


def _science(design: Design) -> dict[str, Any]:
    design = design.written
    plan = design.plan.model_dump(mode="json", by_alias=True, exclude=_NOT_SCIENCE)
    runs = {run.name: config_hash(run.config) for run in [*design.search(), *design.comparison()]}
    science = {"plan": plan, "base": design.base.model_dump(mode="json"), "runs": runs}
    return science if design.paces is None else {**science, "paces": _listed(design.paces)}


def _science_in(whole: Mapping[str, Any]) -> dict[str, Any]:
    """What of a stored version is in its hash."""
    plan = {key: value for key, value in whole.get("plan", {}).items() if key not in _NOT_SCIENCE}
    return {**{key: value for key, value in whole.items() if key != "parent"}, "plan": plan}


def _listed(paces: Paces) -> list[dict[str, Any]]:
    return [{"arm": arm, "size": size, "seconds": seconds} for (arm, size), seconds in sorted(paces.items())]


def _paces(whole: Mapping[str, Any]) -> Paces | None:
    listed = whole.get("paces")
    return None if listed is None else {(one["arm"], one["size"]): float(one["seconds"]) for one in listed}


@dataclass(frozen=True, slots=True)
class ExperimentFolder:
    """Where an experiment stands.

    Attributes:
        path: the folder.
    """

    path: Path

    @classmethod
    def open(cls, path: Path) -> ExperimentFolder:
        """Open an experiment that is there.

        Raises:
            PicoLMError: there is none.
        """
        if not (path / PLANS).is_file():
            siblings = [file.parent.name for file in path.parent.glob(f"*/{PLANS}")]
            raise PicoLMError(f"there is no experiment {path}{nearest(path.name, siblings)}")
        return cls(path)

    @classmethod
    def make(cls, path: Path) -> ExperimentFolder:
        """Make a folder, or open one that is there.

        Raises:
            PicoLMError: it cannot be made, or is that of something else.
        """
        # A lock alone was left by a process that was killed at once.
        if path.exists() and not (path / PLANS).is_file() and any(file.name != ".lock" for file in path.iterdir()):
            raise PicoLMError(f"{path} is there and is no experiment; move it, or give the plan another `name`")
        with explained(path):
            path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    def register(self, design: Design, text: str, parent: Path | None = None) -> bool:
        """Keep a plan before its first run, or a changed one; the plan that is kept already changes nothing.

        Args:
            design: the plan with its base.
            text: as its author wrote it.
            parent: the run that arms go on from.

        Returns:
            Whether this is a new version.

        Raises:
            PicoLMError: the folder cannot be written.
        """
        science = _science(design)
        digest = _digest_of(science)
        # By what both are to this PicoLM: one that knows more keys makes no other plan of it, and tells no such key.
        former = _science(self.design()) if read_log(self.path / PLANS) else None
        if former is not None and _digest_of(former) == digest:
            return False
        with explained(self.path):
            (self.path / "plans").mkdir(parents=True, exist_ok=True)
        whole = {
            **science,
            "plan": design.written.plan.model_dump(mode="json", by_alias=True),
            "parent": None if parent is None else os.path.relpath(parent.resolve(), self.path.resolve()),
        }
        write_text(self.path / "plans" / f"{digest}.json", json.dumps(whole, indent=2) + "\n")
        write_text(self.path / "plans" / f"{digest}.yaml", text)
        line = {
            "sha256": digest,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "picolm": picolm_version(),
            "after_runs": len(self.begun()),
            "changes": [] if former is None else _told(former, science),
        }
        with LogWriter(self.path / PLANS) as writer:
            writer.append(line)
        return True

    def versions(self) -> tuple[PlanVersion, ...]:
        """All versions of the plan, oldest first."""
        return tuple(
            PlanVersion(line["sha256"], line["time"], tuple(line["changes"]), line["after_runs"])
            for line in read_log(self.path / PLANS)
        )

    def design(self) -> Design:
        """The plan as it stands, with its base; of a sweep by Optuna, with the points that were proposed so far.

        Raises:
            PicoLMError: its file was damaged or changed.
        """
        digest = self._digest
        whole = self._version(digest)
        if _digest_of(_science_in(whole)) != digest:
            raise PicoLMError(f"{self.path / 'plans' / digest}.json was changed: it no longer has the hash {digest}")
        try:
            design = Design(Plan.model_validate(whole["plan"]), build_config(whole["base"]), _paces(whole))
        except (ValidationError, KeyError, TypeError) as error:
            raise PicoLMError(f"{self.path / 'plans' / digest}.json was changed: it holds no plan") from error
        if design.plan.sweep is None or design.plan.sweep.optuna is None:
            return design
        return Design(design.plan.with_points([trial.point for trial in self.trials.read()]), design.base)

    @property
    def trials(self) -> TrialFile:
        """Points that were proposed one after another, and what became of them: of all versions that ask the same."""
        science = self._version(self._digest)
        asked = _science_in(science)["plan"]
        plan = {**asked, "sweep": {**asked["sweep"], "trials": None}}
        return TrialFile(self.path / f"trials-{sha256_of_json({'plan': plan, 'base': science['base']})[:12]}.jsonl")

    def paces(self, plan: Plan, base: Config) -> Paces | None:
        """The paces that were kept with this very plan: it goes on with them, on whatever machine.

        Args:
            plan: as it is wanted now.
            base: what its runs begin with.

        Returns:
            None where no plan is kept, the last one is another, or it has none.
        """
        if not (self.path / PLANS).is_file():
            return None
        # Both as this PicoLM reads them, which may know more keys than the one that wrote.
        kept = self.design()
        plans = [one.model_dump(mode="json", by_alias=True, exclude=_NOT_SCIENCE) for one in (kept.plan, plan)]
        return kept.paces if plans[0] == plans[1] and kept.base == base else None

    def parent(self) -> RunDirectory | None:
        """The run that arms go on from; None where each begins anew.

        Raises:
            PicoLMError: it is no longer there.
        """
        place = self._version(self._digest)["parent"]
        return None if place is None else RunDirectory.open(self.path / place)

    def run_path(self, run: str) -> Path:
        """Where a run stands, whether it is there or not."""
        return self.path / "runs" / run

    def config_path(self, run: str) -> Path:
        """Where the configuration of a run stands."""
        return self.path / "configs" / f"{run}.yaml"

    def log_path(self, run: str) -> Path:
        """Where what a run's processes print is kept."""
        return self.path / "logs" / f"{run}.txt"

    @property
    def report_path(self) -> Path:
        """Where the page stands."""
        return self.path / "report.html"

    def begun(self) -> list[str]:
        """Names of all runs that are there, those of earlier plans too."""
        return [
            file.parent.name for place in ("runs", "superseded") for file in self.path.glob(f"{place}/*/{RUN_FILE}")
        ]

    def launches(self) -> list[dict[str, Any]]:
        """All starts and ends: `event`, `run`, `time`, and `code` of an end."""
        return read_log(self.path / "launches.jsonl")

    def note(self, event: str, run: str, **facts: object) -> None:
        """Add a start or an end to `launches.jsonl`."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        with LogWriter(self.path / "launches.jsonl") as writer:
            writer.append({"event": event, "run": run, "time": time, **facts})

    def state(self, run: PlannedRun, launches: list[dict[str, Any]] | None = None) -> State:
        """How far a run is.

        Args:
            run: of the plan.
            launches: what `launches` gave, where it was read already.
        """
        path = self.run_path(run.name)
        ended = [
            line
            for line in (self.launches() if launches is None else launches)
            if line["run"] == run.name and line["event"] == "ended"
        ]
        failed = bool(ended) and ended[-1]["code"] not in _STOPPED
        if not (path / RUN_FILE).is_file():
            return "failed" if failed else "waiting"
        if read_ledger(path).ended == run.config.training.steps:
            return "finished"
        if is_held(path):
            return "running"
        return "failed" if failed else "stopped"

    def run(self, name: str) -> RunDirectory | None:
        """A run, None where it did not begin."""
        path = self.run_path(name)
        return RunDirectory.open(path) if (path / RUN_FILE).is_file() else None

    def choices(self) -> dict[tuple[str, str], Choice] | None:
        """What the search of this version of the plan chose, by arm and size; None before it did."""
        content = self._json("choices.json")
        if content is None or content["plan"] != self._digest:
            return None
        return {(one["arm"], one["size"]): one["values"] for one in content["choices"]}

    def choose(self, choices: Mapping[tuple[str, str], Choice]) -> None:
        """Keep what the search chose."""
        found = [{"arm": arm, "size": size, "values": values} for (arm, size), values in choices.items()]
        write_json(self.path / "choices.json", {"plan": self._digest, "choices": found})

    def forecast(self) -> Cost | None:
        """What all runs together were expected to take, before the first; None where it was not measured."""
        content = self._json("forecast.json")
        return None if content is None else Cost(**content)

    def expect(self, cost: Cost) -> None:
        """Keep what all runs together are expected to take."""
        write_json(self.path / "forecast.json", asdict(cost))

    @property
    def _digest(self) -> str:
        """Of the plan as it stands."""
        digest: str = read_log(self.path / PLANS)[-1]["sha256"]
        return digest

    def _version(self, digest: str) -> dict[str, Any]:
        content = self._json(f"plans/{digest}.json")
        if content is None:
            raise PicoLMError(f"{self.path / 'plans' / digest}.json is missing: the plan that ran is not known")
        return content

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            content = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise PicoLMError(f"{self.path / name} cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise PicoLMError(f"{self.path / name} was changed: it must hold a JSON object")
        return content


def _told(former: Mapping[str, Any], latter: Mapping[str, Any]) -> list[str]:
    """What differs between two versions of a plan, one sentence each."""
    kept = ("plan", "base", "paces")
    changes = difference(*({key: _numbered(version.get(key)) for key in kept} for version in (former, latter)))
    return [
        f"{change.key}: {json.dumps(change.left)} -> {json.dumps(change.right)}"
        for change in changes
        # Of a prediction that is new, what it leaves open is no change.
        if not {json.dumps(change.left), json.dumps(change.right)} <= {json.dumps(ABSENT), "null"}
    ]


def _numbered(value: Any) -> Any:
    """The same with lists of mappings by the number of each, from 1, so that one that changed is told alone."""
    if isinstance(value, Mapping):
        return {key: _numbered(item) for key, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return {str(number): _numbered(item) for number, item in enumerate(value, start=1)}
    return value
