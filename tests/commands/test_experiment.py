"""`picolm experiment plan`: what is printed, in what form, and what forks of one parent are warned of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Call = Callable[..., tuple[int, str, str]]

PLAN = {
    "experiment": 1,
    "claim": "Smoothed targets make loss worse.",
    "base": "demo",
    "set": {"training.steps": 10, "schedule.warmup_steps": 1},
    "arms": {"plain": {}, "smoothed": {"with": ["label_smoothing alpha=0.1"]}},
    "seeds": 3,
    "predictions": [{"measure": {"validation": "loss"}, "direction": "higher", "smallest": 0.01, "primary": True}],
}


def written(folder: Path, **changes: Any) -> str:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**PLAN, **changes}.items() if value is not None}))
    return str(path)


def test_what_a_plan_comes_to(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("experiment", "plan", written(tmp_path), "--quick", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["runs"] == [f"{arm}.seed{n}" for n in range(3) for arm in ("plain", "smoothed")]
    assert found["arms"]["plain"]["differs"] == {} and set(found["arms"]["smoothed"]["differs"]) == {"interventions"}
    one = found["arms"]["plain"]["cost_of_a_run"]
    assert found["total"]["flops"] == pytest.approx(6 * one["flops"])
    assert found["total"]["disk_bytes"] == 6 * one["disk_bytes"]
    assert "3 seeds tell an effect only where" in found["warnings"][0]
    code, out, _ = call("experiment", "plan", written(tmp_path), "--quick")
    assert (
        code == 0
        and "rough" in out
        and "primary: final validation loss" in out
        and "6 runs:" in out
        and "mind: " in out
    )
    assert {path.name for path in tmp_path.iterdir()} == {"plan.yaml", ".picolm"}


def test_forks_of_one_parent_are_no_replicates(call: Call, run: Path, tmp_path: Path) -> None:
    fork = {"base": None, "fork": {"run": str(run), "at": 3}, "set": {"training.steps": 6}}
    code, out, _ = call("experiment", "plan", written(tmp_path, **fork), "--quick", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["arms"]["plain"]["steps"] == 6 and "repetitions are no replicates" in found["warnings"][0]
    fork["fork"] = {"run": str(run), "at": 2}
    code, _, err = call("experiment", "plan", written(tmp_path, **fork))
    assert code == 2 and "has no state at step 2 to go on from; it has states at: 3" in err


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"arms": {"plain": {}, "odd": {"with": ["label_smothing"]}}}, "did you mean 'label_smoothing'"),
        ({"arms": {"plain": {}, "odd": {"with": ["label_smoothing alpha=3"]}}}, "alpha"),
        ({"arms": {"plain": {}, "own": {"with": ["mine.py:Mine"]}}}, "mine.py"),
        ({"tune": {"grid": {"optimizer.learning_rat": [1]}}}, "optimizer.learning_rat"),
    ],
)
def test_what_cannot_run_is_found_before_anything_runs(
    call: Call, tmp_path: Path, changes: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call("experiment", "plan", written(tmp_path, **changes))
    assert code == 2 and sentence in err and "Traceback" not in err and not out


def test_time_that_was_not_measured_cannot_be_equal(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call("experiment", "plan", written(tmp_path, equal="time"), "--quick")
    assert code == 2 and not out and "`equal: time` needs to know how long a step of arm 'smoothed' takes" in err
