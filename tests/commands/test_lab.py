"""`picolm lab` and `picolm experiment record`: what is listed, shown and written, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from picolm.experiments.design import Design, base_of
from picolm.experiments.folder import ExperimentFolder
from picolm.experiments.reading import parse_plan

Call = Callable[..., tuple[int, str, str]]

RECORD: dict[str, Any] = {
    "record": 1,
    "name": "warmth",
    "date": "2026-02-28",
    "claim": "Hotter is better.",
    "lesson": "It is not.",
    "numbers": [
        {
            "measure": "final validation loss",
            "arm": "hot",
            "against": "cool",
            "direction": "lower",
            "smallest": 0.01,
            "primary": True,
            "verdict": "refuted",
            "estimate": 0.3,
            "interval": [0.1, 0.5],
            "p": 0.01,
            "n": 5,
        }
    ],
    "change": {"hot": {"optimizer.learning_rate": [0.003, 0.006]}},
    "seeds": 5,
    "finished": 9,
    "runs": 10,
    "plan": "0f" * 32,
    "deviations": ["2026-02-27, after 3 runs had begun: plan.seeds: 3 -> 5"],
}
SWEEP = {
    "record": 1,
    "name": "rates",
    "date": "2026-03-01",
    "best": [
        {
            "measure": "final validation loss",
            "choose": "lowest",
            "point": {"optimizer.learning_rate": 0.004},
            "mean": 3.25,
            "n": 2,
            "of": 6,
        }
    ],
    "seeds": 2,
    "finished": 12,
    "runs": 12,
    "plan": "0e" * 32,
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "180")
    folder = tmp_path / "docs" / "lab"
    folder.mkdir(parents=True)
    for record in (RECORD, SWEEP):
        (folder / f"{record['name']}.yaml").write_text(yaml.safe_dump(record, sort_keys=False))
    return folder


def test_the_newest_is_listed_first_with_verdict_and_effect(call: Call, lab: Path) -> None:
    code, out, _ = call("lab")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 3
    assert lines[1].startswith("2026-03-01  rates") and "optimizer.learning_rate: 0.004" in lines[1]
    assert "Hotter is better." in lines[2] and "refuted" in lines[2] and "+0.3 (+0.1 to +0.5)" in lines[2]
    code, out, _ = call("lab", "--json", "--folder", str(lab))
    assert code == 0 and [one["name"] for one in json.loads(out)] == ["rates", "warmth"]


def test_one_is_shown_with_what_was_changed_and_what_was_learnt(call: Call, lab: Path) -> None:
    code, out, _ = call("lab", "warmth")
    assert code == 0
    for words in (
        "lesson: It is not.",
        "primary: final validation loss",
        "lower, by more than 0.01",
        "optimizer.learning_rate     0.003  0.006",
        "9 of 10 runs",
        "deviation: 2026-02-27, after 3 runs",
    ):
        assert words in out
    code, out, _ = call("lab", "rates")
    assert code == 0 and "lowest final validation loss" in out and "3.2500" in out
    code, out, _ = call("lab", "warmth", "--json")
    assert {**RECORD, "question": ""}.items() <= {**json.loads(out), "seeds": 5}.items()


def test_what_is_not_there_is_said(call: Call, lab: Path) -> None:
    code, out, err = call("lab", "warmht")
    assert code == 2 and not out and "there is no record 'warmht'; did you mean 'warmth'" in err
    code, _, err = call("lab", "--folder", "nowhere")
    assert code == 2 and "there is no lab notebook nowhere" in err
    (lab / "empty").mkdir()
    code, out, _ = call("lab", "--folder", str(lab / "empty"))
    assert code == 0 and "the lab notebook is empty" in out


def test_an_experiment_is_recorded_and_never_over_another(
    call: Call, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = parse_plan("{experiment: 1, base: demo, sweep: {list: [{}]}, seeds: 2}", origin="plan", name="sweeping")
    folder = ExperimentFolder(lab.parents[1] / "experiments" / "sweeping")
    folder.register(Design(plan, base_of(plan, Path())), "text")
    folder.report_path.write_text("page")
    assessed = ModuleType("picolm.experiments.assessment")
    monkeypatch.setattr(assessed, "assess", _assess, raising=False)
    monkeypatch.setitem(sys.modules, "picolm.experiments.assessment", assessed)
    words = ("--lesson", "Nothing ran.", "--question", "Does it?")
    code, out, _ = call("experiment", "record", "experiments/sweeping", *words)
    assert code == 0 and "record: docs/lab/sweeping.yaml" in out and "its `lesson:` is empty" not in out
    found = yaml.safe_load((lab / "sweeping.yaml").read_text())
    assert found["lesson"] == "Nothing ran." and found["report"] == "../../experiments/sweeping/report.html"
    assert found["plan"] == folder.versions()[-1].digest and found["command"] == "picolm experiment run sweeping.yaml"
    code, out, _ = call("experiment", "record", "experiments/sweeping", "--json")
    assert code == 0 and json.loads(out) == yaml.safe_load((lab / "sweeping.yaml").read_text()) == found
    (lab / "sweeping.yaml").write_text(yaml.safe_dump({**SWEEP, "name": "sweeping"}))
    code, _, err = call("experiment", "record", "experiments/sweeping")
    assert code == 2 and "is the record of another plan" in err and "Traceback" not in err
    assert yaml.safe_load((lab / "sweeping.yaml").read_text())["plan"] == SWEEP["plan"]
    code, _, err = call("experiment", "record", "experiments/sweepin")
    assert code == 2 and "did you mean 'sweeping'" in err


def _assess(folder: ExperimentFolder, progress: object) -> Any:
    from picolm.experiments.findings import Cost, Findings

    plan = folder.design().plan
    took = Cost(0.0, 0.0, 0)
    return Findings(plan, folder.versions(), {}, (), (), {}, (), (), (), (), None, None, took)
