"""What a plan may ask a cluster for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from picolm.config.loading import load_config
from picolm.experiments.design import Design
from picolm.experiments.folder import plan_digest
from picolm.experiments.launchers.settings import Slurm
from picolm.experiments.plan import Plan
from picolm.experiments.reading import read_plan

PLAN = """
experiment: 1
base: demo
arms: {plain: {}}
seeds: 2
"""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"partitoin": "gpu"}, "partitoin"),
        ({"partition": "gpu --wrap=x"}, "pattern"),
        ({"account": "a\n#SBATCH --qos=x"}, "pattern"),
        ({"hours": 0}, "greater than 0"),
        ({"memory_gb": 1.5}, "integer"),
        ({"additional_parameters": {"time": 5}}, "'time' has a key of its own: hours"),
        ({"additional_parameters": {"mem": "5G"}}, "'mem' has a key of its own: memory_gb"),
        ({"additional_parameters": {"no-requeue": True}}, "'no-requeue' has a key of its own: requeue"),
        ({"additional_parameters": {"output": "x"}}, "'output' is not free"),
        ({"additional_parameters": {"array": "0-3"}}, "'array' is not free"),
        ({"additional_parameters": {"exclusive": False}}, "'exclusive' is false: leave it out"),
        ({"additional_parameters": {"--nice": 1}}, "pattern"),
        ({"additional_parameters": {"comment": "a\nb"}}, "pattern"),
    ],
)
def test_what_makes_no_job_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Slurm.model_validate(given)


def test_a_plan_reads_it_and_names_a_wrong_key(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN + "slurm: {partition: gpu, hours: 2.5, setup: module load cuda}\n")
    assert read_plan(file).slurm == Slurm(partition="gpu", hours=2.5, setup=("module load cuda",))
    file.write_text(PLAN + "slurm: {partitoin: gpu}\n")
    with pytest.raises(ValueError, match=r"slurm\.partitoin"):
        read_plan(file)


def test_where_runs_are_made_is_not_in_the_hash_of_a_plan() -> None:
    base = load_config("demo")
    plan = {"experiment": 1, "name": "a", "base": "demo", "arms": {"plain": {}}, "seeds": 2}
    digests = {
        plan_digest(Design(Plan.model_validate({**plan, **more}), base))
        for more in ({}, {"slurm": {"partition": "gpu"}}, {"slurm": {"hours": 3.0}})
    }
    assert len(digests) == 1
