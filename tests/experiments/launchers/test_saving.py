"""A run that a launcher stops has saved what it needs to go on, however many SIGTERMs reach it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from picolm.experiments.launchers.local import LocalLauncher
from picolm.experiments.launchers.settings import Slurm
from picolm.experiments.launching import Job, Launcher
from picolm.runs.directory import RunDirectory

from .watching import ended, holds, until

SMALL = ("training.batch_size=4", "validation.tokens_per_domain=2000", "samples.prompts=[]", "training.log_every=1")


def training(folder: Path, *shell: str) -> Job:
    train = [sys.executable, "-m", "picolm", "train", "demo", "training.steps=100000", *SMALL, "--name", "run"]
    return Job("run", [*shell, *train], folder, folder / "log.txt", {"OMP_NUM_THREADS": "1"})


def launchers(folder: Path) -> dict[str, Launcher]:
    found: dict[str, Launcher] = {"local": LocalLauncher()}
    try:
        from picolm.experiments.launchers.slurm import SlurmLauncher

        found["submitit"] = SlurmLauncher(Slurm(), folder / "jobs", cluster="local")
    except ValueError:
        pytest.skip("launching on Slurm needs the extra `slurm`")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "submitit"])
def test_a_run_that_is_stopped_can_go_on(tmp_path: Path, kind: str) -> None:
    job = training(tmp_path)
    handle = launchers(tmp_path)[kind].start(job)
    until(holds(tmp_path / "runs" / "run" / "log.jsonl", '"step":'))
    handle.stop()
    assert ended(handle) == 143
    assert "ended early by SIGTERM" in job.log.read_text()
    assert saved(tmp_path)


@pytest.mark.slow
def test_a_run_whose_parent_passes_on_what_it_got_itself_saves_all_the_same(tmp_path: Path) -> None:
    # The group gets the signal, and the shell in it sends it again, a little later: at once, the two would be one.
    passes_on = 'trap "sleep 0.2; kill -TERM \\$child" TERM; "$@" & child=$!; wait $child; wait $child'
    job = training(tmp_path, "bash", "-c", passes_on, "bash")
    handle = LocalLauncher().start(job)
    until(holds(tmp_path / "runs" / "run" / "log.jsonl", '"step":'))
    os.killpg(int(str(handle.facts()["pid"])), signal.SIGTERM)
    assert ended(handle) == 143
    assert "ended early by SIGTERM" in job.log.read_text()
    assert saved(tmp_path)


def saved(folder: Path) -> bool:
    """Whether the state of the last step that was logged is there."""
    run = RunDirectory.open(folder / "runs" / "run")
    states = sorted(run.path.glob("checkpoints/step-*/state"))
    last = (run.path / "log.jsonl").read_text().splitlines()[-1]
    return f'"step":{int(states[-1].parent.name.removeprefix("step-"))},' in last.replace(" ", "")
