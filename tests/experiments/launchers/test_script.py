"""The batch script of a job: its text, that bash takes it, and that nothing in it becomes a command by accident."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.experiments.launchers.script import job_name, script
from picolm.experiments.launchers.settings import Slurm
from picolm.experiments.launching import Job

COMMAND = ["python", "-m", "picolm", "experiment", "one", "experiments/warm up", "hot.seed0"]


def job_of(
    command: list[str],
    environment: dict[str, str] | None = None,
    *,
    name: str = "hot.seed0",
    log: str = "/lab/logs/hot.seed0.txt",
) -> Job:
    return Job(name, command, Path("/lab"), Path(log), environment or {})


def test_the_text() -> None:
    asked = Slurm(
        partition="gpu",
        account="lab",
        qos="long",
        hours=1.5,
        memory_gb=32,
        cpus_per_task=8,
        gpus_per_node=1,
        setup=("module load cuda", "source env/bin/activate"),
        additional_parameters={"constraint": "a100|h100", "exclusive": True},
    )
    assert script(job_of(COMMAND, {"OMP_NUM_THREADS": "8"}), asked) == (
        """\
#!/bin/bash
#SBATCH --job-name=hot.seed0
#SBATCH --output=/lab/logs/hot.seed0.txt
#SBATCH --signal=B:TERM@120
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --qos=long
#SBATCH --time=90
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem=32GB
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --constraint='a100|h100'
#SBATCH --exclusive

cd -- /lab || exit 1
module load cuda
source env/bin/activate
export OMP_NUM_THREADS=8
exec python -m picolm experiment one 'experiments/warm up' hot.seed0
"""
    )


def test_what_is_not_asked_for_is_the_clusters_to_choose() -> None:
    text = script(job_of(COMMAND), Slurm())
    for option in ("partition", "account", "qos", "mem", "gpus"):
        assert f"--{option}" not in text


@pytest.mark.parametrize(("hours", "minutes"), [(1.0, 60), (0.001, 1), (1.51, 91), (24.0, 1440), (1 / 60, 1)])
def test_wall_time_is_in_minutes_rounded_up(hours: float, minutes: int) -> None:
    assert f"#SBATCH --time={minutes}\n" in script(job_of(COMMAND), Slurm(hours=hours))


def test_a_job_that_must_not_come_back_says_so() -> None:
    text = script(job_of(COMMAND), Slurm(requeue=False))
    assert "#SBATCH --no-requeue\n" in text
    assert "#SBATCH --requeue" not in text


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=40, deadline=None)
@given(words=st.lists(WORDS, max_size=4), value=WORDS)
def test_words_and_variables_reach_the_command_as_they_are(words: list[str], value: str) -> None:
    # In a directory that is there: bash runs what sbatch would.
    job = Job("a", ["printf", "%s\\0", "$VALUE", *words], Path("/"), Path("/log"), {"VALUE": value})
    show = Job("a", ["printenv", "-0", "VALUE"], Path("/"), Path("/log"), {"VALUE": value})
    assert bash(script(job, Slurm())) == "".join(f"{word}\0" for word in ["$VALUE", *words])
    assert bash(script(show, Slurm())) == f"{value}\0"


def bash(text: str) -> str:
    subprocess.run(["bash", "-n"], input=text.encode(), check=True)
    return subprocess.run(["bash", "-s"], input=text.encode(), capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize("name", ["$(touch x)", "a b", "a\n#SBATCH --mail-user=me", "é;rm -rf /", "'"])
def test_a_name_gives_no_second_line_and_no_command(name: str) -> None:
    text = script(job_of(COMMAND, name=name), Slurm())
    assert text.splitlines()[1:3] == [
        f"#SBATCH --job-name={job_name(name)}",
        "#SBATCH --output=/lab/logs/hot.seed0.txt",
    ]
    assert set(job_name(name)) <= set("abcdefghijklmnopqrstuvwxyzSBATCH.-_")


def test_a_log_is_no_pattern_of_slurms() -> None:
    text = script(job_of(COMMAND, log="/lab/50%j of it/log.txt"), Slurm())
    assert "#SBATCH --output='/lab/50%%j of it/log.txt'\n" in text


@pytest.mark.parametrize("log", ["/lab/a\nb.txt", "/lab/a\\b.txt"])
def test_a_log_that_cannot_be_named_to_slurm_is_refused(log: str) -> None:
    with pytest.raises(PicoLMError, match=r"hot.seed0: the log .* cannot be named to Slurm"):
        script(job_of(COMMAND, log=log), Slurm())


@pytest.mark.parametrize("name", ["A B", "1A", "A;touch x", "", "A=B"])
def test_a_variable_that_no_shell_can_have_is_refused(name: str) -> None:
    with pytest.raises(PicoLMError, match="cannot be the name of an environment variable"):
        script(job_of(COMMAND, {name: "1"}), Slurm())


def test_a_zero_byte_is_refused() -> None:
    with pytest.raises(PicoLMError, match="zero byte"):
        script(job_of(["echo", "\0"]), Slurm())


def test_the_command_takes_the_place_of_the_shell_so_that_a_signal_to_it_arrives(tmp_path: Path) -> None:
    job = Job("a", ["sh", "-c", "echo $$"], tmp_path, tmp_path / "log", {})
    path = tmp_path / "job.sh"
    path.write_text(script(job, Slurm(setup=("echo $$",))))
    shell, command = subprocess.run(["bash", path], capture_output=True, text=True, check=True).stdout.split()
    assert shell == command


def test_a_job_whose_folder_is_gone_does_not_run_elsewhere(tmp_path: Path) -> None:
    job = Job("a", ["echo", "ran"], tmp_path / "gone", tmp_path / "log", {})
    path = tmp_path / "job.sh"
    path.write_text(script(job, Slurm()))
    done = subprocess.run(["bash", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
