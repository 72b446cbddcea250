"""What a run asks a Slurm cluster for: the key `slurm` of a plan."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from picolm.config.section import Count, Positive, PositiveReal, Section, Strings

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.,:@+-]*$")]
Option = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
Value = bool | int | Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]

_OURS = {
    "account": "account",
    "cpus-per-task": "cpus_per_task",
    "gpus-per-node": "gpus_per_node",
    "mem": "memory_gb",
    "no-requeue": "requeue",
    "partition": "partition",
    "qos": "qos",
    "requeue": "requeue",
    "signal": "save_seconds",
    "time": "hours",
}
"""Options of sbatch that have a key of their own."""
_FIXED = {"array", "chdir", "error", "job-name", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output", "wrap"}
"""Options that a job of one task, whose log the experiment keeps, leaves no choice for."""


class Slurm(Section):
    """What each run asks a Slurm cluster for."""

    partition: Word | None = Field(None, description="where jobs wait; null: the cluster's default")
    account: Word | None = Field(None, description="who pays; null: your default")
    qos: Word | None = Field(None, description="quality of service; null: the default")
    hours: PositiveReal = Field(24.0, description="wall time of one job, after which Slurm ends it")
    memory_gb: Positive | None = Field(None, description="main memory of a job; null: the cluster's default")
    cpus_per_task: Positive = Field(2, description="cores of a job")
    gpus_per_node: Count = Field(0, description="GPUs of a job")
    at_once: Positive = Field(32, description="jobs that wait or run at the same time")
    requeue: bool = Field(True, description="whether Slurm may put a preempted job back in the queue, where it goes on")
    save_seconds: Positive = Field(120, description="before the end of its time a job is told to save and end")
    setup: Strings = Field((), description="lines of shell before the command, such as `module load cuda`")
    additional_parameters: dict[Option, Value] = Field(
        {}, description="further options of sbatch without their dashes; true for one that takes no value"
    )

    @field_validator("additional_parameters")
    @classmethod
    def _not_twice(cls, value: dict[str, Value]) -> dict[str, Value]:
        for option in value:
            if option in _OURS:
                raise ValueError(f"'{option}' has a key of its own: {_OURS[option]}")
            if option in _FIXED:
                raise ValueError(f"'{option}' is not free: a job is one task, and its log stands in the experiment")
            if value[option] is False:
                raise ValueError(f"'{option}' is false: leave it out")
        return value

    @property
    def minutes(self) -> int:
        """Wall time as sbatch takes it, rounded up."""
        return max(1, -int(-self.hours * 60 // 1))

    def options(self) -> dict[str, str | int | bool]:
        """Options of sbatch without their dashes, but for the job's name, its log and the signal."""
        chosen: dict[str, str | int | bool | None] = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "time": self.minutes,
            "nodes": 1,
            "ntasks-per-node": 1,
            "cpus-per-task": self.cpus_per_task,
            "gpus-per-node": self.gpus_per_node or None,
            "mem": None if self.memory_gb is None else f"{self.memory_gb}GB",
            "requeue" if self.requeue else "no-requeue": True,
            # What was printed before a requeue stays.
            "open-mode": "append",
            **self.additional_parameters,
        }
        return {option: value for option, value in chosen.items() if value is not None}
