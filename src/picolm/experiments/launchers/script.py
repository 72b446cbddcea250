"""The batch script of a job: what `sbatch` takes, written without Slurm."""

from __future__ import annotations

import re
import shlex

from picolm.errors import PicoLMError
from picolm.experiments.launchers.settings import Slurm
from picolm.experiments.launching import Job


def script(job: Job, settings: Slurm) -> str:
    """Write the batch script of a job.

    The last line replaces the shell by the command, so that the signal before the end of the job's time, which goes to
    the batch shell alone (`B:`), reaches the command itself, once.

    Args:
        job: what is to run.
        settings: what it asks the cluster for.

    Returns:
        A script for `sbatch`; `bash` runs it too.

    Raises:
        PicoLMError: something in the job cannot stand in a script.
    """
    options = {
        "job-name": job_name(job.name),
        "output": _pattern(job),
        "signal": f"B:TERM@{settings.save_seconds}",
        **settings.options(),
    }
    lines = ["#!/bin/bash", *(_directive(option, value) for option, value in options.items()), ""]
    lines += [f"cd -- {_quoted(job, str(job.folder.absolute()))} || exit 1", *settings.setup]
    lines += [f"export {_variable(job, name)}={_quoted(job, value)}" for name, value in job.environment.items()]
    lines += [f"exec {' '.join(_quoted(job, word) for word in job.command)}", ""]
    return "\n".join(lines)


def job_name(name: str) -> str:
    """A run's name as a job may have it: letters, digits and `. _ -`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def _directive(option: str, value: str | int | bool) -> str:
    return f"#SBATCH --{option}" if value is True else f"#SBATCH --{option}={shlex.quote(str(value))}"


def _pattern(job: Job) -> str:
    """The log, as a file name in which sbatch replaces nothing."""
    path = str(job.log.absolute())
    # A backslash switches the patterns of sbatch off, and would be lost.
    if "\\" in path or not path.isprintable():
        raise PicoLMError(f"{job.name}: the log {path!r} cannot be named to Slurm: move the experiment")
    return path.replace("%", "%%")


def _variable(job: Job, name: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise PicoLMError(f"{job.name}: '{name}' cannot be the name of an environment variable in a script")
    return name


def _quoted(job: Job, word: str) -> str:
    if "\0" in word:
        raise PicoLMError(f"{job.name}: {word!r} holds a zero byte and cannot stand in a script")
    return shlex.quote(word)
