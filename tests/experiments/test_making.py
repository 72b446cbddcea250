"""Runs of a plan are made once, go on after anything, and never stop each other; changed plans lose nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from picolm.config.loading import load_config
from picolm.errors import PicoLMError
from picolm.experiments.design import Design, PlannedRun
from picolm.experiments.findings import State
from picolm.experiments.folder import PLANS, ExperimentFolder, _science_in
from picolm.experiments.launching import Job
from picolm.experiments.making import Maker
from picolm.experiments.reading import parse_plan
from picolm.runs.digest import sha256_of_json
from picolm.runs.directory import RunDirectory
from picolm.runs.ledger import Ledger
from picolm.runs.lock import RunLock

PLAN = """
experiment: 1
base: demo
set: {training.steps: 10, schedule.warmup_steps: 1}
arms:
  plain: {}
  hot: {set: {optimizer.learning_rate: 1e-2}}
seeds: SEEDS
"""


def design(seeds: int = 2, text: str = PLAN) -> Design:
    return Design(parse_plan(text.replace("SEEDS", str(seeds)), origin="a plan", name="test"), load_config("demo"))


@dataclass
class Process:
    """A process that does as it was told after so many looks."""

    launcher: FakeLauncher
    job: Job
    looks: int
    ends: int
    stopped: bool = False

    def code(self) -> int | None:
        self.looks -= 1
        if self.looks > 0 and not self.stopped:
            return None
        self.launcher.running.discard(self.job.name)
        return 143 if self.stopped else self.ends

    def stop(self) -> None:
        self.stopped = True

    def facts(self) -> Mapping[str, object]:
        return {"name": self.job.name}


@dataclass
class FakeLauncher:
    """Makes run directories in place of training; some runs fail."""

    folder: ExperimentFolder
    fails: set[str] = field(default_factory=set)
    looks: int = 2
    outlives: bool = False
    started: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    most: int = 0
    queue: dict[str, Process] = field(default_factory=dict)

    def start(self, job: Job) -> Process:
        self.started.append(job.name)
        self.running.add(job.name)
        self.most = max(self.most, len(self.running))
        if job.name not in self.fails:
            finish(self.folder, job.name)
        return Process(self, job, self.looks, 1 if job.name in self.fails else 0)

    def attach(self, facts: Mapping[str, object]) -> Process | None:
        return self.queue.get(str(facts["name"]))


def finish(folder: ExperimentFolder, name: str, step: int = 10) -> None:
    path = folder.run_path(name)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        RunDirectory.create(path, {"marker": name})
    with Ledger(path) as ledger:
        ledger.append({"event": "ended", "step": step})


class Eye:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.ends: dict[str, State] = {}
        self.waited: list[str] = []
        self.anew: list[str] = []

    def began(self, run: PlannedRun, *, anew: bool) -> None:
        if anew:
            self.anew.append(run.name)

    def waits(self, run: PlannedRun) -> None:
        self.waited.append(run.name)

    def ended(self, run: PlannedRun, state: State, log: Path) -> None:
        self.ends[run.name] = state

    def looked(self, running: Sequence[PlannedRun], left: int) -> None:
        pass


@dataclass
class Never:
    signal: object | None = None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentFolder:
    monkeypatch.setattr("picolm.experiments.making._POLL_SECONDS", 0.001)
    found = ExperimentFolder.make(tmp_path / "test")
    found.register(design(), "a plan")
    return found


def make(
    folder: ExperimentFolder,
    launcher: FakeLauncher,
    of: Design | None = None,
    *,
    at_once: int = 1,
    eye: Eye | None = None,
    stop: Any = None,
) -> dict[str, State]:
    maker = Maker(
        folder,
        launcher,
        lambda run: ["make", run.name],
        at_once=at_once,
        watcher=eye or Eye(),
        stop=stop or Never(),
    )
    return maker.make((of or design()).comparison())


def test_all_runs_are_made_once(folder: ExperimentFolder) -> None:
    launcher = FakeLauncher(folder)
    states = make(folder, launcher)
    assert launcher.started == ["plain.seed0", "hot.seed0", "plain.seed1", "hot.seed1"]
    assert set(states.values()) == {"finished"}
    again = FakeLauncher(folder)
    assert make(folder, again) == states and again.started == []


@pytest.mark.parametrize("at_once", [1, 2, 3, 9])
def test_so_many_at_once_and_no_more(folder: ExperimentFolder, at_once: int) -> None:
    launcher = FakeLauncher(folder, looks=5)
    make(folder, launcher, at_once=at_once)
    assert launcher.most == min(at_once, 4)


def test_a_failed_run_does_not_stop_the_others_and_is_tried_again(folder: ExperimentFolder) -> None:
    eye = Eye()
    states = make(folder, FakeLauncher(folder, fails={"hot.seed0"}), eye=eye)
    assert states.pop("hot.seed0") == "failed" and set(states.values()) == {"finished"}
    assert eye.ends["hot.seed0"] == "failed"
    launcher = FakeLauncher(folder)
    assert set(make(folder, launcher).values()) == {"finished"} and launcher.started == ["hot.seed0"]


def test_a_run_that_was_interrupted_goes_on(folder: ExperimentFolder) -> None:
    finish(folder, "plain.seed0", step=4)
    eye = Eye()
    make(folder, FakeLauncher(folder), eye=eye)
    assert eye.anew == ["hot.seed0", "plain.seed1", "hot.seed1"] and set(eye.ends.values()) == {"finished"}


def test_a_run_that_another_process_makes_is_waited_for(folder: ExperimentFolder) -> None:
    finish(folder, "plain.seed0", step=4)
    eye = Eye()
    lock = RunLock(folder.run_path("plain.seed0"))
    lock.__enter__()

    def looked(running: Sequence[PlannedRun], left: int) -> None:
        if left == 0 and [run.name for run in running] == ["plain.seed0"]:
            finish(folder, "plain.seed0")
            lock.__exit__(None, None, None)

    eye.looked = looked  # type: ignore[method-assign]
    launcher = FakeLauncher(folder)
    states = make(folder, launcher, at_once=2, eye=eye)
    assert eye.waited == ["plain.seed0"] and "plain.seed0" not in launcher.started
    assert set(states.values()) == {"finished"}


def test_who_wants_out_is_let_out_when_runs_are_saved(folder: ExperimentFolder) -> None:
    stop = Never()
    eye = Eye()

    def looked(running: Sequence[PlannedRun], left: int) -> None:
        stop.signal = "SIGTERM"

    eye.looked = looked  # type: ignore[method-assign]
    launcher = FakeLauncher(folder, looks=1000)
    make(folder, launcher, at_once=2, eye=eye, stop=stop)
    assert launcher.started == ["plain.seed0", "hot.seed0"] and not launcher.running
    assert [line["code"] for line in folder.launches() if line["event"] == "ended"] == [143, 143]


def test_jobs_that_outlive_us_are_found_again(folder: ExperimentFolder) -> None:
    stop = Never()
    eye = Eye()

    def looked(running: Sequence[PlannedRun], left: int) -> None:
        stop.signal = "SIGINT"

    eye.looked = looked  # type: ignore[method-assign]
    launcher = FakeLauncher(folder, looks=1000, outlives=True)
    launcher.fails = {"plain.seed0"}
    make(folder, launcher, eye=eye, stop=stop)
    assert launcher.running == {"plain.seed0"}
    after = Eye()
    job = Job("plain.seed0", ["make"], Path(), Path(), {})
    waiting = FakeLauncher(folder, outlives=True)
    waiting.queue = {"plain.seed0": Process(waiting, job, 3, 0)}
    make(folder, waiting, eye=after)
    assert after.waited == ["plain.seed0"] and "plain.seed0" not in waiting.started


def test_a_changed_plan_moves_runs_aside_and_a_changed_mind_brings_them_back(folder: ExperimentFolder) -> None:
    make(folder, FakeLauncher(folder))
    changed = design(text=PLAN.replace("1e-2", "2e-2"))
    assert folder.register(changed, "a changed plan")
    launcher = FakeLauncher(folder)
    make(folder, launcher, changed)
    assert launcher.started == ["hot.seed0", "hot.seed1"]
    assert sorted(path.name.rsplit(".", 1)[0] for path in (folder.path / "superseded").iterdir()) == [
        "hot.seed0",
        "hot.seed1",
    ]
    deviation = folder.versions()[-1]
    assert deviation.after_runs == 4 and deviation.changes == (
        "plan.arms.hot.set.optimizer.learning_rate: 0.01 -> 0.02",
    )
    assert folder.register(design(), "a plan")
    back = FakeLauncher(folder)
    assert set(make(folder, back).values()) == {"finished"} and back.started == []


def test_of_a_changed_prediction_what_changed_is_told_alone(folder: ExperimentFolder) -> None:
    def plan(*predictions: str) -> Design:
        return design(text=f"{PLAN}claim: Hot is worse.\npredictions: [{', '.join(predictions)}]\n")

    primary = "{measure: {validation: loss}, direction: higher, smallest: %s, primary: true}"
    other = "{measure: {logged: gradient_norm, summary: mean}, direction: lower}"
    assert folder.register(plan(primary % 0.01), "a claim")
    assert folder.register(plan(primary % 0.02), "of a larger effect")
    assert folder.versions()[-1].changes == ("plan.predictions.1.smallest: 0.01 -> 0.02",)
    assert folder.register(plan(primary % 0.02, other), "and another one")
    told = folder.versions()[-1].changes
    assert 'plan.predictions.2.measure.logged: "(absent)" -> "gradient_norm"' in told
    assert all(change.startswith("plan.predictions.2.") and "null" not in change for change in told)


def test_more_seeds_keep_the_runs_that_are_there(folder: ExperimentFolder) -> None:
    make(folder, FakeLauncher(folder))
    launcher = FakeLauncher(folder)
    make(folder, launcher, design(3))
    assert launcher.started == ["plain.seed2", "hot.seed2"]


def test_the_plan_is_kept_before_the_first_run_and_as_it_was(folder: ExperimentFolder) -> None:
    first = folder.versions()
    assert len(first) == 1 and first[0].after_runs == 0 and first[0].changes == ()
    assert not folder.register(design(), "the same with other words")
    kept = folder.design()
    assert kept.plan == design().plan and [run.config for run in kept.comparison()] == [
        run.config for run in design().comparison()
    ]
    file = folder.path / "plans" / f"{first[0].digest}.json"
    file.write_text(file.read_text().replace('"training.steps": 10', '"training.steps": 11'))
    with pytest.raises(PicoLMError, match="no longer has the hash"):
        folder.design()


def test_a_plan_of_an_older_picolm_is_the_same_plan(folder: ExperimentFolder) -> None:
    """A key that came later, with its default, changes neither the hash that was kept nor the plan."""
    (version,) = folder.versions()
    file = folder.path / "plans" / f"{version.digest}.json"
    whole = json.loads(file.read_text())
    del whole["plan"]["arms"]["hot"]["seeds"]
    del whole["base"]["training"]["ema"]
    whole["runs"] = dict.fromkeys(whole["runs"], "0" * 64)
    digest = sha256_of_json({**_science_in(whole), "plan": json.dumps(_science_in(whole)["plan"])})
    file.with_name(f"{digest}.json").write_text(json.dumps(whole))
    plans = folder.path / PLANS
    plans.write_text(plans.read_text().replace(version.digest, digest))
    assert folder.design().plan == design().plan
    assert not folder.register(design(), "a plan") and len(folder.versions()) == 1


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(PicoLMError, match="is no experiment"):
        ExperimentFolder.make(tmp_path / "mine")
    with pytest.raises(PicoLMError, match="there is no experiment"):
        ExperimentFolder.open(tmp_path / "mine")
