"""Two processes make the run of one: gradients, trace, scores, captures, and on a resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import picolm
from picolm.runs.directory import RunDirectory

SCRIPT = Path(__file__).parent / "on_ranks.py"
STUBS = Path(__file__).parent / "stubs"
CAPTURE = {
    "capture.every": 3,
    "capture.probes": {"held_out": {"sequences": 4}},
    "capture.activations": ["residual.1", "layers.*.attention.q_proj"],
    "capture.gradients": ["layers.*.mlp.up_proj"],
    "capture.moments": ["layers.*.mlp.up_proj"],
    "capture.train_batch": True,
}
# Adam divides by the root of the second moment: where a gradient is all but zero, rounding would become a whole step.
SMOOTH = {"optimizer.eps": 1e-4}
SAVING = {"checkpoints.state.every": 2, "checkpoints.keep_states": None, **SMOOTH}


def on_two_ranks(runs: Path, listed: Sequence[dict[str, Any]]) -> None:
    """Make the runs in one start of `torchrun`."""
    file = runs / "listed.json"
    file.write_text(json.dumps(listed))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    # The packages that this process sees, also where they are those of a source tree.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(SCRIPT), str(file), str(runs)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]


def asked(lab: Any, name: str, uses: Sequence[Any], dies: Sequence[int] = (), **changes: object) -> dict[str, Any]:
    overrides = {**lab.overrides, **changes, "interventions": [dict(use) for use in uses]}
    return {"name": name, "overrides": overrides, "trusted": [use["use"] for use in uses], "dies": list(dies)}


def assert_same(lab: Any, two: RunDirectory, one: RunDirectory, steps: int = 10) -> None:
    """Losses to 1e-6 of their own size, weights to 1e-6 of a large one."""
    first, second = lab.log(one), lab.log(two)
    assert [line["losses"].keys() for line in first] == [line["losses"].keys() for line in second]
    for ours, theirs in zip(first, second, strict=True):
        assert theirs["losses"] == pytest.approx(ours["losses"], rel=1e-6)
        assert theirs.get("figures", {}) == pytest.approx(ours.get("figures", {}), rel=1e-5)
    assert exact(lab.trace(two)) == exact(lab.trace(one))
    ours, theirs = lab.weights(one, steps), lab.weights(two, steps)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        np.testing.assert_allclose(theirs[name], weight, rtol=1e-6, atol=1e-6, err_msg=name)


def test_two_ranks_make_the_run_of_one(lab: Any, cases: Any) -> None:
    together, masked = cases["together"], cases["two_views"]
    lopsided = [{"use": f"{STUBS / 'lopsided.py'}:Lopsided"}]
    plans: dict[str, tuple[Any, dict[str, Any]]] = {
        "together": (together.uses, {**together.overrides, **CAPTURE, **SAVING, "training.ema.start": 1}),
        "masked": (masked.uses, {**masked.overrides, **SAVING, "training.micro_batch_size": 3}),
        "lopsided": (lopsided, SMOOTH),
        "one_row": ((), {"training.batch_size": 1, **SMOOTH}),
        # Three episodes for two ranks, and one, which the second computes without its counting.
        "episodes": (cases["meta_pretraining"].uses, SMOOTH),
        "one_episode": ([{**cases["meta_joint"].uses[0], "tasks": 1}], SMOOTH),
    }
    listed = [asked(lab, f"{name}-2", uses, **changes) for name, (uses, changes) in plans.items()]
    listed.append(asked(lab, "together-stopped", plans["together"][0], [1, 6], **plans["together"][1]))
    on_two_ranks(lab.directory, listed)
    runs = {}
    for name, (uses, changes) in plans.items():
        runs[name] = lab.train(uses, name, **changes)
        assert_same(lab, RunDirectory(lab.directory / f"{name}-2"), runs[name])
    two, stopped = (RunDirectory(lab.directory / f"together-{end}") for end in ("2", "stopped"))
    assert lab.contents(stopped) == lab.contents(two)
    assert [line["from_checkpoint"] for line in stopped.attempts] == [None, 0, 6]
    assert two.attempts[0]["ranks"] == 2
    captured(runs["together"], two)


LOW_RANK = {"use": "relora", "rank": 2, "alpha": 6.0, "merge_every": 3, "rewarmup_steps": 2, "probe_rows": 3}
LOW_RANKS = {
    "pruned": {**LOW_RANK, "reset": "random", "reset_ratio": 0.5, "init": "orthogonal"},
    "adaptive": {**LOW_RANK, "adapt": True, "scaling": "learned"},
    "published": {**LOW_RANK, "compat": "published"},
    "subspace": {"use": "galore", "rank": 3, "refresh_every": 4, "on_refresh": "project"},
}


def test_low_rank_methods_are_the_same_on_two_ranks(lab: Any) -> None:
    """Merges, first values and masks come from no rank's own generators, which `on_ranks.py` seeds apart."""
    changes = {**SAVING, "schedule.final_fraction": 0.1}
    listed = [asked(lab, f"{name}-2", [use], **changes) for name, use in LOW_RANKS.items()]
    listed.append(asked(lab, "adaptive-stopped", [LOW_RANKS["adaptive"]], [3, 7], **changes))
    on_two_ranks(lab.directory, listed)
    for name, use in LOW_RANKS.items():
        one = lab.train([use], name, **changes)
        assert_same(lab, RunDirectory(lab.directory / f"{name}-2"), one)
    two, stopped = (RunDirectory(lab.directory / f"adaptive-{end}") for end in ("2", "stopped"))
    assert lab.contents(stopped) == lab.contents(two)


def exact(trace: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events without what is subject to rounding."""
    return [{key: fact for key, fact in event.items() if not isinstance(fact, float)} for event in trace]


def captured(one: RunDirectory, two: RunDirectory) -> None:
    files = sorted(file.relative_to(one.path) for file in (one.path / "captures").rglob("step-*/*.safetensors"))
    assert len(files) > 3
    for file in files:
        ours, theirs = load_file(one.path / file), load_file(two.path / file)
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            np.testing.assert_allclose(theirs[name], tensor, rtol=1e-3, atol=2e-5, err_msg=f"{file} {name}")


@pytest.mark.slow
def test_every_intervention_is_the_same_on_two_ranks(lab: Any, cases: Any) -> None:
    listed = []
    for name, case in cases.items():
        changes = {**case.overrides, **SAVING}
        listed.append(asked(lab, f"{name}-2", case.uses, **changes))
        listed.append(asked(lab, f"{name}-stopped", case.uses, [3, 7], **changes))
    on_two_ranks(lab.directory, listed)
    for name, case in cases.items():
        two = RunDirectory(lab.directory / f"{name}-2")
        assert_same(lab, two, lab.train(case.uses, name, **{**case.overrides, **SAVING}))
        assert lab.contents(RunDirectory(lab.directory / f"{name}-stopped")) == lab.contents(two)


@pytest.mark.slow
def test_two_ranks_stay_with_one_over_fifty_steps(lab: Any) -> None:
    changes = {"training.steps": 50}
    on_two_ranks(lab.directory, [asked(lab, "two", (), **changes)])
    config = picolm.load_config(None, {**lab.overrides, **changes})
    one = picolm.train(config, name="one", runs_dir=lab.directory)
    ours, theirs = ([line["loss"] for line in lab.log(run)] for run in (one, RunDirectory(lab.directory / "two")))
    assert theirs == pytest.approx(ours, rel=1e-5)
