"""Jobs in the queue of a Slurm cluster, through `submitit`, which is loaded only where it is used.

A job's folder holds the script, what submitit needs to carry it to the cluster (a pickle of paths and of the name of
our function, which only the job itself opens), and the exit code as text. Nothing that is pickled is read back here.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from picolm.errors import PicoLMError
from picolm.experiments.launchers.payload import carry_out
from picolm.experiments.launchers.script import job_name, script
from picolm.experiments.launchers.settings import Slurm
from picolm.experiments.launching import Job
from picolm.runs.durable import make_parents, write_text

if TYPE_CHECKING:
    import submitit

Cluster = Literal["slurm", "local"]
_PROGRAMS = ("sbatch", "srun", "squeue", "sacct", "scancel")
_STOPPED = 143
"""Code of a run that was told to save and end: it goes on when it is made again."""
_CODES = {
    "COMPLETED": 0,
    "CANCELLED": _STOPPED,
    "DEADLINE": _STOPPED,
    "PREEMPTED": _STOPPED,
    "TIMEOUT": _STOPPED,
    "OUT_OF_MEMORY": 137,
    **dict.fromkeys(("FAILED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"), 1),
    # Words of submitit's for a process of this machine.
    **dict.fromkeys(("FINISHED", "INTERRUPTED", "NO PROCESS AND NO RESULT"), 1),
}
"""Exit codes for final states; a job in any other state waits or runs."""
_PREEMPTED_SECONDS = 900.0
"""A job that is preempted goes back to the queue at once; where a cluster cancels it, the state stays."""


class SlurmHandle:
    """A job in the queue, or on a node."""

    def __init__(self, job: submitit.Job[Any], ended: Path, log: Path, cluster: Cluster) -> None:
        """Take a job.

        Args:
            job: as submitit knows it.
            ended: the file that holds its exit code at the end.
            log: of its command.
            cluster: where it runs.
        """
        self._job, self._ended, self._log, self._cluster = job, ended, log, cluster
        self._preempted: float | None = None
        self._code: int | None = None

    def code(self) -> int | None:
        """How it ended; None while it waits or runs.

        A job that was lost with its node, or killed by Slurm, has a code too; its log then says what Slurm calls it.
        """
        if self._code is None:
            self._code = self._look()
        return self._code

    def stop(self) -> None:
        """Take it out of the queue; where it runs, send SIGTERM to its command, with no limit for saving."""
        if self._cluster == "local":
            if self._job.state == "RUNNING":
                with suppress(ProcessLookupError):
                    os.kill(int(self._job.job_id), signal.SIGTERM)
            return
        for option in ("--state=PENDING", "--signal=TERM"):
            # Each finds nothing to do in the other's case, and says so.
            subprocess.run(["scancel", option, self._job.job_id], capture_output=True, check=False)

    def facts(self) -> Mapping[str, object]:
        """The job's number and its two files."""
        return {"slurm_job": self._job.job_id, "ended": self._ended.name, "log": str(self._log)}

    def state(self) -> str:
        """What the cluster calls its state: PENDING, RUNNING, NODE_FAIL, ...; UNKNOWN where it does not say."""
        # `CANCELLED by 1000` names who did it.
        return self._job.state.partition(" by ")[0].upper()

    def _look(self) -> int | None:
        written = self._written()
        # A job that was preempted while it saved goes back to the queue: only the cluster knows whether it is over. A
        # process of this machine is over when nothing of it is left.
        if written is not None and written < 128 and self._cluster == "slurm":
            return written
        state = self.state()
        if state not in _CODES or self._may_return(state):
            return None
        # It may have been written since.
        written = self._written()
        if written is not None:
            return written
        self._explain(state)
        return _CODES[state]

    def _may_return(self, state: str) -> bool:
        if state != "PREEMPTED":
            self._preempted = None
            return False
        self._preempted = time.monotonic() if self._preempted is None else self._preempted
        return time.monotonic() - self._preempted < _PREEMPTED_SECONDS

    def _written(self) -> int | None:
        try:
            return int(self._ended.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def _explain(self, state: str) -> None:
        """Write down what the job itself could not, so that it is said once."""
        with suppress(OSError, PicoLMError):
            write_text(self._ended, f"{_CODES[state]}\n")
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"picolm: job {self._job.job_id} ended as {state}\n")


class SlurmLauncher:
    """Puts each job into the queue of a cluster, where it stays when this process ends."""

    outlives = True

    def __init__(self, settings: Slurm, folder: Path, *, cluster: Cluster = "slurm") -> None:
        """Look whether there is a cluster.

        Args:
            settings: what each job asks for.
            folder: for what belongs to jobs; on a disk that all nodes see.
            cluster: `local` tries jobs out as processes of this machine.

        Raises:
            PicoLMError: submitit is not installed, this machine belongs to no cluster, or the folder cannot be used.
        """
        _quiet_submitit()
        missing = [program for program in _PROGRAMS if cluster == "slurm" and shutil.which(program) is None]
        if missing:
            raise PicoLMError(
                f"there is no `{missing[0]}` here: start it on a login node of a Slurm cluster, or print the scripts"
            )
        if "%" in str(folder.absolute()):
            raise PicoLMError(f"{folder} has a '%' in its name, which Slurm would replace: choose another folder")
        self._settings, self._folder, self._cluster = settings, folder.absolute(), cluster

    def start(self, job: Job) -> SlurmHandle:
        """Put a job into the queue.

        Raises:
            PicoLMError: the cluster does not take it, or its files cannot be written.
        """
        import submitit

        ticket = f"{job_name(job.name)}.{secrets.token_hex(4)}"
        path, ended = self._folder / f"{ticket}.sh", self._folder / f"{ticket}.code"
        log = job.log.absolute()
        make_parents(path)
        make_parents(log)
        write_text(path, script(job, self._settings))
        try:
            executor = submitit.AutoExecutor(self._folder, cluster=self._cluster)
            executor.update_parameters(**_parameters(job, self._settings))
            queued = executor.submit(carry_out, str(path), str(log), str(ended))
        except (OSError, RuntimeError) as error:
            said = str(error).strip().splitlines() or ["it does not say why"]
            raise PicoLMError(f"{job.name} was not put into the queue: {said[-1]}") from error
        return SlurmHandle(queued, ended, log, self._cluster)

    def attach(self, facts: Mapping[str, object]) -> SlurmHandle | None:
        """Find a job again that an earlier process put into the queue.

        Args:
            facts: as its handle gave them.

        Returns:
            The job; None where the facts are of another launcher, or the cluster does not know it.
        """
        import submitit

        number, ended, log = facts.get("slurm_job"), facts.get("ended"), facts.get("log")
        if not isinstance(number, str) or not isinstance(ended, str) or not isinstance(log, str):
            return None
        # Facts come from a file: a number is handed to programs, a name must stay in the folder.
        if not number.isdecimal() or Path(ended).name != ended:
            return None
        kind = submitit.SlurmJob if self._cluster == "slurm" else submitit.LocalJob
        handle = SlurmHandle(kind(self._folder, number), self._folder / ended, Path(log), self._cluster)
        if handle.code() is None and handle.state() == "UNKNOWN" and not _is_queued(number):
            return None
        return handle


def _is_queued(number: str) -> bool:
    """Whether the queue has a job; it knows at once, while accounts take some seconds."""
    found = subprocess.run(["squeue", "--noheader", f"--jobs={number}"], capture_output=True, check=False)
    return found.returncode == 0 and bool(found.stdout.strip())


def _parameters(job: Job, settings: Slurm) -> dict[str, Any]:
    """What submitit is to ask for: the same as the script says."""
    own = {"time", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "mem", "open-mode"}
    others = {option: value for option, value in settings.options().items() if option not in own}
    return {
        "name": job_name(job.name),
        "timeout_min": settings.minutes,
        "nodes": 1,
        "tasks_per_node": 1,
        "cpus_per_task": settings.cpus_per_task,
        "gpus_per_node": settings.gpus_per_node or None,
        "mem_gb": settings.memory_gb,
        # submitit would send SIGUSR2. Without `B:`: the batch shell is submitit's, the command is in a step.
        "slurm_additional_parameters": {**others, "signal": f"TERM@{settings.save_seconds}"},
        # Since Slurm 22.05 srun does not take this from the job that it is in.
        "slurm_srun_args": [f"--cpus-per-task={settings.cpus_per_task}"],
        "stderr_to_stdout": True,
    }


def _quiet_submitit() -> None:
    """Import submitit, and keep what it logs off standard output, where results stand."""
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise PicoLMError("Slurm needs submitit, which is not installed: pip install 'picolm[slurm]'") from None
    logger = logging.getLogger("submitit")
    for handler in list(logger.handlers):
        if isinstance(handler, logging.StreamHandler) and handler.stream is not sys.stderr:
            logger.removeHandler(handler)
