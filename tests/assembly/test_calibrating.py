"""Calibration by real short runs: what is found, that it is found once, and what is said where a short run fails."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from picolm.assembly import calibrating
from picolm.assembly.calibrating import Cell, calibrate
from picolm.assembly.training import forecast, train
from picolm.config.loading import load_config
from picolm.config.schema import Config
from picolm.errors import PicoLMError
from picolm.experiments.costing import Costing


def cell(config: Config, trusted: tuple[str, ...] = ()) -> Cell:
    # As fast as it is: few steps would do.
    rough = dataclasses.replace(Costing.rough(config, forecast(config, trusted=trusted)), step_seconds=1.0)
    return Cell("plain", config, rough, 0, trusted)


def forbidden(*_: object) -> Costing:
    raise AssertionError("it was measured a second time")


@pytest.mark.slow
def test_short_runs_show_what_a_run_leaves_on_the_disk_and_are_made_once(
    small_run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {
        "training.steps": 20,
        "checkpoints.model.every": 6,
        "checkpoints.state.every": 8,
        "capture.every": 7,
        "evaluation": {"tasks": ["perplexity"], "every": 9},
    }
    config = load_config(None, {**small_run, **wanted})
    heard: list[tuple[str, int, int]] = []
    told: list[int] = []
    (found,) = calibrate(
        [cell(config)],
        at_once=2,
        progress=lambda *said: heard.append(said),
        tell=lambda runs, seconds: told.append(runs),
        folder=tmp_path / "kept",
    )
    assert told == [1] and heard[-1][1] == heard[-1][2] and len(heard) == len(set(heard))
    assert set(found.event_seconds) == {"model", "state", "validation", "capture", "evaluation"}
    assert found.step_seconds > 0 and found.fixed_seconds > 0
    # Other seeds, and another length: the same measurement.
    monkeypatch.setattr(calibrating, "_measured", forbidden)
    other = load_config(None, {**small_run, **wanted, "seeds.init": 5, "training.steps": 24})
    assert calibrate([cell(other)], at_once=2, folder=tmp_path / "kept") == [found]
    made = train(config, runs_dir=tmp_path / "runs")
    took = sum(file.stat().st_size for file in made.path.rglob("*") if file.is_file())
    assert found.cost(config).disk_bytes == pytest.approx(took, rel=0.02)
    assert found.cost(config).flops == forecast(config).flops


def test_what_was_measured_is_read_again_and_damage_is_measured_anew(
    small_run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, small_run)
    asked: list[str] = []
    kept = tmp_path / "kept"

    def measured(one: Cell, *_: object) -> Costing:
        asked.append(one.name)
        return dataclasses.replace(one.rough, measured=True, step_seconds=float(len(asked)))

    monkeypatch.setattr(calibrating, "_measured", measured)

    def steps(changed: Config, at_once: int = 1) -> float:
        trusted = tuple(item.use for item in changed.interventions)
        return calibrate([cell(changed, trusted)], at_once=at_once, folder=kept)[0].step_seconds

    assert steps(config) == steps(config) == 1.0
    assert steps(load_config(None, {**small_run, "seeds.data": 9, "schedule.warmup_steps": 1})) == 1.0
    # Other work in a step, another kind of event, other company.
    assert steps(load_config(None, {**small_run, "training.batch_size": 4})) == 2.0
    assert steps(load_config(None, {**small_run, "checkpoints.state.every": 4})) == 3.0
    assert steps(config, at_once=2) == 4.0
    for file in kept.glob("*.json"):
        file.write_text(json.dumps({"format": 1, "costing": {}}))
    assert steps(config) == 5.0
    # Code of the user's own is part of what is measured.
    own = tmp_path / "mine.py"
    code = "from picolm.seams import Intervention\n\n\nclass Mine(Intervention):\n    pass\n"
    own.write_text(code)
    mine = load_config(None, small_run, [f"{own}:Mine"])
    assert steps(mine) == 6.0 == steps(mine)
    own.write_text(code + "\n# Edited.\n")
    assert steps(mine) == 7.0


def test_what_allows_no_short_run_is_measured_without_its_interventions(
    small_run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(None, small_run, ["freeze until=3"])

    def measured(one: Cell, *_: object) -> Costing:
        if one.config.interventions:
            raise PicoLMError("too short for it")
        return dataclasses.replace(one.rough, measured=True)

    monkeypatch.setattr(calibrating, "_measured", measured)
    assert calibrate([cell(config)], at_once=1, folder=tmp_path / "kept")[0].measured
    assert "'plain' is measured without its interventions: too short for it" in capsys.readouterr().err
    strict = dataclasses.replace(cell(config), may_do_without=False)
    with pytest.raises(PicoLMError, match="too short for it"):
        calibrate([strict], at_once=1, folder=tmp_path / "other")


@pytest.mark.slow
def test_a_short_run_that_fails_says_why(small_run: dict[str, Any], tmp_path: Path) -> None:
    config = load_config(None, {**small_run, "training.nonfinite_limit": 0, "optimizer.learning_rate": 1e30})
    with pytest.raises(
        PicoLMError, match=r"what 'plain' takes failed, saying: the loss .*; --quick does without"
    ) as caught:
        calibrate([cell(config)], at_once=1, folder=tmp_path)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
