"""A short form of `kill_runs.py`: runs that are killed and resumed end as the run that nobody killed."""

from pathlib import Path

import pytest
from kill_runs import Killer  # type: ignore[import-not-found]


def test_killed_runs_end_as_the_one_that_nobody_killed(tmp_path: Path) -> None:
    killer = Killer(tmp_path, seed=2)
    killer.make_reference()
    for number in range(2):
        outcome = killer.kill_and_resume(f"run-{number}")
        assert outcome.kills and not outcome.differences, outcome


@pytest.mark.slow
@pytest.mark.parametrize("settings", [["training.compile=true"], ["optimizer.kind=muon", "training.precision=bf16"]])
def test_compiled_and_muon_runs_do_so_too(tmp_path: Path, settings: list[str]) -> None:
    killer = Killer(tmp_path, settings, seed=1)
    killer.make_reference()
    outcome = killer.kill_and_resume("run")
    assert outcome.kills and not outcome.differences, outcome
