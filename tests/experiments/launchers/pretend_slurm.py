"""A cluster of one node, made of small programs: it takes real batch scripts, and runs them here."""

from __future__ import annotations

import itertools
import os
import signal
import stat
from contextlib import suppress
from pathlib import Path

import submitit

_numbers = itertools.count(1000 * os.getpid())

_PROGRAMS = {
    # Takes a script; runs it at once unless the queue is held.
    "sbatch": """
if [ -e "$CLUSTER/refuses" ]; then cat "$CLUSTER/refuses" >&2; exit 1; fi
id=$(cat "$CLUSTER/next"); job=$CLUSTER/jobs/$id; mkdir -p "$job"; cp "$1" "$job/script"
if [ -e "$CLUSTER/held" ]; then echo PENDING > "$job/state"; else "$CLUSTER/bin/node" "$id"; fi
echo "Submitted batch job $id"
""",
    # Not a program of Slurm's: what its controller does when a job's turn has come.
    "node": """
job=$CLUSTER/jobs/$1; echo RUNNING > "$job/state"
SLURM_JOB_ID=$1 setsid bash -c '
  bash "$0/script"; code=$?
  [ "$(cat "$0/state")" != RUNNING ] || { [ $code = 0 ] && echo COMPLETED || echo FAILED; } > "$0/state.new"
  [ ! -e "$0/state.new" ] || mv "$0/state.new" "$0/state"
' "$job" < /dev/null > /dev/null 2>&1 &
""",
    "srun": """
job=$CLUSTER/jobs/$SLURM_JOB_ID; echo "$@" > "$job/srun"; echo $$ > "$job/step"
while [ "${1#-}" != "$1" ]; do
  if [ "$1" = --output ]; then shift; fi
  shift
done
exec "$@"
""",
    "sacct": """
echo 'JobID|State|NodeList'
for job in "$CLUSTER"/jobs/*; do
  [ ! -e "$job/unaccounted" ] || continue
  echo "${job##*/}|$(cat "$job/state")|node1"
  echo "${job##*/}.batch|RUNNING|node1"
done
""",
    "squeue": """
job=$CLUSTER/jobs/${2#--jobs=}
[ -e "$job/state" ] || { echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1; }
case "$(cat "$job/state")" in PENDING|RUNNING) echo "${2#--jobs=}";; esac
""",
    "scancel": """
job=$CLUSTER/jobs/$2; state=$(cat "$job/state")
case "$1 $state" in
  '--state=PENDING PENDING') echo 'CANCELLED by 1000' > "$job/state";;
  '--signal=TERM RUNNING') kill -TERM "$(cat "$job/step")";;
  *) echo 'scancel: error: nothing to do' >&2; exit 1;;
esac
""",
}


class PretendSlurm:
    """Programs of Slurm's names, and what they keep.

    Attributes:
        place: where both stand.
        bin: what goes in front of PATH.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.bin = place, place / "bin"
        (place / "jobs").mkdir(parents=True)
        self.bin.mkdir()
        for name, text in _PROGRAMS.items():
            program = self.bin / name
            program.write_text(f"#!/bin/bash\nCLUSTER={place}\n{text.lstrip()}")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.number_jobs()

    def number_jobs(self) -> None:
        """Give the next job a number that no job had, as submitit remembers all that it ever saw."""
        (self.place / "next").write_text(str(next(_numbers)))

    def hold(self) -> None:
        """From now on jobs wait."""
        (self.place / "held").touch()

    def refuse(self, said: str) -> None:
        """From now on no job is taken."""
        (self.place / "refuses").write_text(said)

    def let_run(self, job: str) -> None:
        """A job's turn has come, or has come again."""
        assert os.spawnv(os.P_WAIT, self.bin / "node", ["node", job]) == 0
        self.look_again()

    def lose(self, job: str, state: str) -> None:
        """End a job at once, and say why."""
        self.say(job, state)
        step = int((self.place / "jobs" / job / "step").read_text())
        with suppress(ProcessLookupError):
            os.killpg(os.getpgid(step), signal.SIGKILL)

    def say(self, job: str, state: str) -> None:
        """Say a state of a job."""
        (self.place / "jobs" / job / "state").write_text(f"{state}\n")
        self.look_again()

    def account_for(self, job: str, known: bool) -> None:
        """Whether accounts have heard of a job yet."""
        mark = self.place / "jobs" / job / "unaccounted"
        mark.unlink() if known else mark.touch()
        self.look_again()

    def look_again(self) -> None:
        """Let submitit, which asks more and more seldom, ask at once."""
        submitit.SlurmJob.watcher.clear()

    def script(self, job: str) -> str:
        """What sbatch was given."""
        return (self.place / "jobs" / job / "script").read_text()

    def srun(self, job: str) -> list[str]:
        """What the job's script called srun with."""
        return (self.place / "jobs" / job / "srun").read_text().split()
