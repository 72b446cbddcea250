"""Jobs through submitit: on a pretended Slurm, and on submitit's local executor."""

from __future__ import annotations

import os
import pickle
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from picolm.errors import PicoLMError
from picolm.experiments.launchers.script import script
from picolm.experiments.launchers.settings import Slurm
from picolm.experiments.launching import Job

from .watching import ended, holds, until

pytest.importorskip("submitit", reason="launching on Slurm needs the extra `slurm`")

from picolm.experiments.launchers.slurm import SlurmHandle, SlurmLauncher

from .pretend_slurm import PretendSlurm

SAVES = "trap 'echo saved; exit 143' TERM; echo ready; while :; do sleep 0.02; done"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendSlurm]:
    pretended = PretendSlurm(tmp_path / "cluster")
    monkeypatch.setenv("PATH", f"{pretended.bin}{os.pathsep}{os.environ['PATH']}")
    pretended.look_again()
    yield pretended
    for job in (pretended.place / "jobs").iterdir():
        if (job / "step").exists():
            pretended.lose(job.name, "CANCELLED by 0")


def job_of(folder: Path, code: str, name: str = "plain.seed0") -> Job:
    return Job(name, ["bash", "-c", code], folder, folder / "logs" / "plain.seed0.txt", {"COLOUR": "it's red"})


def launcher(folder: Path, settings: Slurm | None = None) -> SlurmLauncher:
    return SlurmLauncher(settings or Slurm(), folder / "jobs")


def number_of(handle: SlurmHandle) -> str:
    return str(handle.facts()["slurm_job"])


def test_a_job_runs_in_its_folder_and_leaves_log_and_code(tmp_path: Path, cluster: PretendSlurm) -> None:
    job = job_of(tmp_path, 'echo "$COLOUR" > made; echo out; echo err >&2')
    handle = launcher(tmp_path).start(job)
    assert ended(handle) == 0
    assert (tmp_path / "made").read_text() == "it's red\n"
    assert job.log.read_text() == "out\nerr\n"


@pytest.mark.parametrize("code", [1, 2, 77])
def test_a_job_that_fails_has_the_code_of_its_command(tmp_path: Path, cluster: PretendSlurm, code: int) -> None:
    handle = launcher(tmp_path).start(job_of(tmp_path, f"exit {code}"))
    assert ended(handle) == code
    until(lambda: (cluster.place / "jobs" / number_of(handle) / "state").read_text() == "FAILED\n")


def test_stop_lets_a_running_job_save(tmp_path: Path, cluster: PretendSlurm) -> None:
    job = job_of(tmp_path, SAVES)
    handle = launcher(tmp_path).start(job)
    until(holds(job.log, "ready"))
    assert handle.code() is None
    handle.stop()
    until(holds(job.log, "saved"))
    assert ended(handle) == 143


def test_stop_takes_a_waiting_job_out_of_the_queue(tmp_path: Path, cluster: PretendSlurm) -> None:
    cluster.hold()
    job = job_of(tmp_path, "echo never")
    handle = launcher(tmp_path).start(job)
    assert handle.code() is None
    handle.stop()
    cluster.look_again()
    assert ended(handle) == 143
    assert "never" not in job.log.read_text()


def test_another_process_finds_a_job_again(tmp_path: Path, cluster: PretendSlurm) -> None:
    cluster.hold()
    job = job_of(tmp_path, "echo made")
    facts = launcher(tmp_path).start(job).facts()
    again = launcher(tmp_path).attach(facts)
    assert again is not None
    assert again.facts() == facts
    assert again.code() is None
    cluster.let_run(number_of(again))
    assert ended(again) == 0
    finished = launcher(tmp_path).attach(facts)
    assert finished is not None
    assert finished.code() == 0


def test_a_job_is_found_again_before_accounts_have_heard_of_it(tmp_path: Path, cluster: PretendSlurm) -> None:
    cluster.hold()
    handle = launcher(tmp_path).start(job_of(tmp_path, "true"))
    cluster.account_for(number_of(handle), known=False)
    again = launcher(tmp_path).attach(handle.facts())
    assert again is not None
    assert again.code() is None
    cluster.say(number_of(handle), "CANCELLED by 1000")
    assert launcher(tmp_path).attach(handle.facts()) is None
    cluster.account_for(number_of(handle), known=True)
    assert again.code() == 143


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"pid": 17},
        {"slurm_job": "99999999999", "ended": "a.code", "log": "log.txt"},
        {"slurm_job": "--help", "ended": "a.code", "log": "log.txt"},
        {"slurm_job": "1", "ended": "../a.code", "log": "log.txt"},
        {"slurm_job": 1, "ended": "a.code", "log": "log.txt"},
    ],
)
def test_what_is_no_job_of_the_cluster_is_not_found(
    tmp_path: Path, cluster: PretendSlurm, facts: dict[str, object]
) -> None:
    (tmp_path / "a.code").write_text("0\n")
    assert launcher(tmp_path).attach(facts) is None


class Trap:
    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> object:
        return Path.touch, (self.sprung,)


def test_no_pickle_that_lies_among_the_jobs_is_opened(tmp_path: Path, cluster: PretendSlurm) -> None:
    handle = launcher(tmp_path).start(job_of(tmp_path, SAVES))
    until(holds(tmp_path / "logs" / "plain.seed0.txt", "ready"))
    for ending in ("0_result.pkl", "submitted.pkl"):
        (tmp_path / "jobs" / f"{number_of(handle)}_{ending}").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    again = launcher(tmp_path).attach(handle.facts())
    assert again is not None
    assert again.code() is None
    cluster.lose(number_of(handle), "NODE_FAIL")
    assert again.code() == 1
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("NODE_FAIL", 1),
        ("BOOT_FAIL", 1),
        ("OUT_OF_MEMORY", 137),
        ("TIMEOUT", 143),
        ("CANCELLED by 1000", 143),
    ],
)
def test_a_lost_job_has_a_code_and_its_log_says_once_what_became_of_it(
    tmp_path: Path, cluster: PretendSlurm, state: str, code: int
) -> None:
    job = job_of(tmp_path, "echo ready; sleep 600")
    handle = launcher(tmp_path).start(job)
    until(holds(job.log, "ready"))
    cluster.lose(number_of(handle), state)
    assert handle.code() == code
    again = launcher(tmp_path).attach(handle.facts())
    assert again is not None
    assert again.code() == code
    said = f"picolm: job {number_of(handle)} ended as {state.split(' ')[0]}"
    assert job.log.read_text().splitlines() == ["ready", said]


@pytest.mark.parametrize("state", ["PENDING", "CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUED", "UNHEARD_OF"])
def test_a_job_in_a_passing_state_has_no_code(tmp_path: Path, cluster: PretendSlurm, state: str) -> None:
    cluster.hold()
    handle = launcher(tmp_path).start(job_of(tmp_path, "true"))
    cluster.say(number_of(handle), state)
    assert handle.code() is None


def test_a_job_that_is_preempted_saves_and_goes_on_when_it_runs_again(tmp_path: Path, cluster: PretendSlurm) -> None:
    job = job_of(tmp_path, f"if [ -e half ]; then echo whole; exit 0; fi; touch half; {SAVES}")
    handle = launcher(tmp_path).start(job)
    until(holds(job.log, "ready"))
    number = number_of(handle)
    cluster.say(number, "PREEMPTED")
    os.kill(int((cluster.place / "jobs" / number / "step").read_text()), 15)
    until(holds(tmp_path / "jobs" / str(handle.facts()["ended"]), "143"))
    assert handle.code() is None
    cluster.say(number, "PENDING")
    assert handle.code() is None
    cluster.let_run(number)
    assert ended(handle) == 0
    assert job.log.read_text().splitlines()[-1] == "whole"


def test_a_preempted_job_that_never_comes_back_was_stopped(
    tmp_path: Path, cluster: PretendSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("picolm.experiments.launchers.slurm._PREEMPTED_SECONDS", 0.0)
    cluster.hold()
    handle = launcher(tmp_path).start(job_of(tmp_path, "true"))
    cluster.say(number_of(handle), "PREEMPTED")
    assert handle.code() == 143


def test_a_queue_that_takes_no_job_is_quoted(tmp_path: Path, cluster: PretendSlurm) -> None:
    cluster.refuse("sbatch: error: invalid partition specified: gpuu")
    with pytest.raises(PicoLMError, match=r"plain.seed0 was not put into the queue: sbatch: error: invalid partition"):
        launcher(tmp_path, Slurm(partition="gpuu")).start(job_of(tmp_path, "true"))


def test_a_machine_without_slurm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PicoLMError, match="there is no `sbatch` here"):
        launcher(tmp_path)


def test_a_missing_submitit_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(PicoLMError, match=r"not installed: pip install 'picolm\[slurm\]'"):
        launcher(tmp_path)


def test_a_folder_that_slurm_would_rename_is_refused(tmp_path: Path, cluster: PretendSlurm) -> None:
    with pytest.raises(PicoLMError, match=r"has a '%' in its name"):
        launcher(tmp_path / "50%j")


def directives(text: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH ")]
    found = dict(line.partition("=")[::2] for line in lines)
    assert len(found) == len(lines), "an option is given twice"
    return {option: "".join(shlex.split(value)) for option, value in found.items()}


@pytest.mark.parametrize(
    "settings",
    [
        Slurm(),
        Slurm(
            partition="gpu,big",
            account="lab-7",
            qos="long",
            hours=1.51,
            memory_gb=48,
            cpus_per_task=8,
            gpus_per_node=2,
            requeue=False,
            save_seconds=300,
            setup=("module load cuda",),
            additional_parameters={"constraint": "a100|h100", "exclusive": True, "nice": 10, "comment": "it's mine"},
        ),
    ],
)
def test_what_is_submitted_asks_for_what_the_script_says(
    tmp_path: Path, cluster: PretendSlurm, settings: Slurm
) -> None:
    job = job_of(tmp_path, "true", name="a run's name")
    handle = launcher(tmp_path, settings).start(job)
    ended(handle)
    printed, submitted = directives(script(job, settings)), directives(cluster.script(number_of(handle)))
    # Of the batch shell in the one, of a step in the other; the log of the command is written by the job itself.
    assert printed.pop("signal") == f"B:{submitted.pop('signal')}"
    assert printed.pop("output") == str(job.log)
    assert Path(submitted.pop("output")).parent == tmp_path / "jobs"
    assert submitted.pop("wckey") == "submitit"
    assert submitted == printed
    assert f"--cpus-per-task={settings.cpus_per_task}" in cluster.srun(number_of(handle))


def test_what_is_submitted_runs_the_script(tmp_path: Path, cluster: PretendSlurm) -> None:
    job, settings = job_of(tmp_path, "true"), Slurm(setup=("echo prepared",))
    handle = launcher(tmp_path, settings).start(job)
    ended(handle)
    stem = str(handle.facts()["ended"]).removesuffix(".code")
    assert (tmp_path / "jobs" / f"{stem}.sh").read_text() == script(job, settings)
    assert job.log.read_text() == "prepared\n"


def test_a_plan_of_jobs_prints_nothing_on_standard_output(
    tmp_path: Path, cluster: PretendSlurm, capfd: pytest.CaptureFixture[str]
) -> None:
    handle = launcher(tmp_path).start(job_of(tmp_path, "echo mine"))
    ended(handle)
    assert capfd.readouterr().out == ""


def local(folder: Path) -> SlurmLauncher:
    return SlurmLauncher(Slurm(), folder / "jobs", cluster="local")


@pytest.mark.parametrize("code", [0, 3])
def test_the_local_executor_runs_a_job_to_its_code(tmp_path: Path, code: int) -> None:
    job = job_of(tmp_path, f"echo made > made; echo printed; exit {code}")
    handle = local(tmp_path).start(job)
    assert ended(handle) == code
    assert (tmp_path / "made").read_text() == "made\n"
    assert job.log.read_text() == "printed\n"
    again = local(tmp_path).attach(handle.facts())
    assert again is not None
    assert again.code() == code


def test_the_local_executor_stops_a_job(tmp_path: Path) -> None:
    job = job_of(tmp_path, SAVES)
    handle = local(tmp_path).start(job)
    until(holds(job.log, "ready"))
    assert handle.code() is None
    handle.stop()
    until(holds(job.log, "saved"))
    assert ended(handle) == 143
