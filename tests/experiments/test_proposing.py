"""What comes next: a function of the trials so far, better than chance, and the same after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from picolm.errors import PicoLMError
from picolm.experiments import proposing
from picolm.experiments.findings import RunRecord, State
from picolm.experiments.plan import Plan
from picolm.experiments.proposing import next_points, outcomes
from picolm.experiments.quantity import Number
from picolm.experiments.space import Point
from picolm.experiments.trials import Trial, TrialFile, ended

RATE, KIND = "optimizer.learning_rate", "optimizer.kind"
SPACE: dict[str, Any] = {
    RATE: {"low": 1e-4, "high": 1e-1, "log": True},
    KIND: ["adamw", "muon"],
    "model.d_ffn": {"low": 64, "high": 512, "integer": True},
}


def plan(trials: int = 30, *, space: dict[str, Any] = SPACE, **changes: Any) -> Plan:
    sweep = {"optuna": space, "trials": trials, **changes}
    return Plan.model_validate({"experiment": 1, "name": "s", "base": "demo", "sweep": sweep, "seeds": 1})


def bowl(point: Point) -> float:
    """Least at a rate of 0.01 with muon."""
    return (math.log10(point[RATE]) + 2) ** 2 + (point[KIND] != "muon")


def searched(plan: Plan, value: Callable[[Point], float], n: int) -> list[Trial]:
    trials: list[Trial] = []
    for number in range(1, n + 1):
        (point,) = next_points(plan, trials, 1)
        trials.append(ended(Trial(number, point), value(point)))
    return trials


def test_the_same_trials_give_the_same_points_and_every_point_is_of_the_space() -> None:
    first, again = (searched(plan(), bowl, 16) for _ in range(2))
    assert first == again
    sweep = plan().sweep
    assert sweep is not None and sweep.optuna is not None
    assert all(sweep.optuna[key].holds(value) for trial in first for key, value in trial.point.items())
    other = searched(plan(seed=1), bowl, 3)
    assert [trial.point for trial in other] != [trial.point for trial in first[:3]]


def test_two_at_once_are_those_that_come_one_after_the_other() -> None:
    done = searched(plan(), bowl, 12)
    both = next_points(plan(), done, 2)
    (one,) = next_points(plan(), done, 1)
    (two,) = next_points(plan(), [*done, Trial(13, one)], 1)
    assert both == [one, two] and one != two


def test_proposals_learn_where_random_ones_do_not() -> None:
    """The mean value of the last ten of thirty trials, over five seeds."""

    def late(sampler: str) -> float:
        runs = [searched(plan(sampler=sampler, seed=seed), bowl, 30)[20:] for seed in range(5)]
        return sum(trial.value or 0.0 for run in runs for trial in run) / 50

    assert late("tpe") < 0.5 * late("random")


def test_highest_seeks_the_other_end() -> None:
    def rate(point: Point) -> float:
        return math.log10(point[RATE])

    low, high = (searched(plan(choose=choose), rate, 30)[20:] for choose in ("lowest", "highest"))
    assert sum(rate(trial.point) for trial in low) < sum(rate(trial.point) for trial in high) - 5


def test_failures_are_told_and_the_search_goes_on() -> None:
    def hot_fails(point: Point) -> float:
        return math.nan if point[RATE] > 0.01 else bowl(point)

    trials = searched(plan(), hot_fails, 20)
    assert {trial.state for trial in trials} == {"finished", "failed"}
    assert all((trial.value is None) == (trial.state == "failed") for trial in trials)


def test_a_sweep_ends() -> None:
    trials = searched(plan(4), bowl, 3)
    assert len(next_points(plan(4), trials, 10)) == 1
    assert next_points(plan(3), trials, 10) == [] and next_points(plan(2), trials, 10) == []


def test_trials_of_another_space_are_passed_over() -> None:
    narrow = {RATE: {"low": 1e-3, "high": 1e-2}}
    (point,) = next_points(plan(space=narrow), [ended(Trial(1, {RATE: 0.5}), 1.0), Trial(2, {"other": 3})], 1)
    assert 1e-3 <= point[RATE] <= 1e-2


def test_choices_may_be_anything_that_a_configuration_holds() -> None:
    choices: list[Any] = [[0, 5], {"every": 3}, None, 1, True]
    trials = searched(plan(space={"x": choices}), lambda point: float(choices.index(point["x"])), 14)
    assert all(any(trial.point["x"] is choice for choice in choices) or trial.point["x"] in choices for trial in trials)


def test_a_point_is_told_of_when_all_of_its_runs_are_over() -> None:
    def run(arm: str, n: int, state: State, value: float | None) -> RunRecord:
        values = {} if value is None else {"final validation loss": Number(value)}
        return RunRecord(f"{arm}.seed{n}", arm, "", f"seed{n}", state, 1, 1, None, values)

    points = [{RATE: 0.01 * n} for n in range(1, 6)]
    trials = [Trial(number, point) for number, point in enumerate(points, start=1)]
    trials[4] = ended(trials[4], 9.0)
    runs = [
        *(run("p001", 0, "finished", 1.0), run("p001", 1, "finished", 2.0)),
        *(run("p002", 0, "finished", 1.0), run("p002", 1, "running", None)),
        *(run("p003", 0, "failed", None), run("p003", 1, "finished", 2.0)),
        *(run("p004", 0, "finished", 1.0), run("p004", 1, "finished", math.nan)),
        *(run("p005", 0, "finished", 1.0), run("p005", 1, "finished", 1.0)),
    ]
    assert outcomes(plan().with_points(points), trials, runs) == {1: 1.5, 3: None, 4: None}


def test_written_points_come_in_their_order() -> None:
    sweep = {"grid": {RATE: [1, 2, 3]}}
    grid = Plan.model_validate({"experiment": 1, "name": "s", "base": "demo", "sweep": sweep, "seeds": 1})
    assert next_points(grid, [Trial(1, {RATE: 1})], 5) == [{RATE: 2}, {RATE: 3}]


def test_a_search_that_was_killed_goes_on_with_the_same_points(tmp_path: Path) -> None:
    whole = searched(plan(), bowl, 14)
    file = TrialFile(tmp_path / "trials.jsonl")
    for _ in range(14):
        # Everything is forgotten but the file, as after a kill; half a line of what was being written is left.
        with file.path.open("a") as torn:
            torn.write('{"trial":9,"sta')
        trials = file.read()
        (proposed,) = file.propose(next_points(plan(), trials, 1))
        file.end(proposed.number, bowl(proposed.point))
    assert list(file.read()) == whole


def test_what_a_file_of_trials_cannot_say(tmp_path: Path) -> None:
    file = TrialFile(tmp_path / "trials.jsonl")
    assert file.read() == ()
    file.propose([{RATE: 0.1}, {RATE: 0.2}])
    assert file.end(2, math.inf).state == "failed" and file.end(1, 2.0).value == 2.0
    with pytest.raises(PicoLMError, match=r"has no trial 3: it has 2"):
        file.end(3, 1.0)
    good = file.path.read_text()
    for line, sentence in (
        ('{"trial":9,"state":"finished","value":1}', "trial 9 was never proposed"),
        ('{"trial":9,"state":"proposed","point":{}}', "trial 9 comes where 3 is next"),
        ('{"trial":1,"state":"lost"}', "its state is lost"),
        ('{"trial":1,"state":"finished","value":"x"}', "its value is no number"),
    ):
        file.path.write_text(f"{good}{line}\n")
        with pytest.raises(PicoLMError, match=f"line 5 tells of no trial: {sentence}"):
            file.read()


def test_without_optuna_one_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(proposing.importlib, "import_module", missing)
    with pytest.raises(PicoLMError, match=r"pip install 'picolm\[optuna\]'"):
        next_points(plan(), [], 1)
