"""What a run takes: the linear model against counting by hand, and coefficients won back from synthetic records."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.config.loading import load_config
from picolm.config.schema import Config
from picolm.experiments.calibration import Reading, costing_of, events_wanted, layout, short
from picolm.experiments.costing import Costing, Event, events_of, happening, makespan, parts_of, step_tokens

SECONDS: dict[Event, float] = {"model": 0.5, "state": 1.5, "validation": 2.0, "capture": 3.0, "evaluation": 5.0}
STEP, FIXED = 0.25, 7.0
BUSY: dict[str, Any] = {
    "training.steps": 40,
    "schedule.warmup_steps": 1,
    "validation": {"every": 10, "at": [0]},
    "checkpoints": {"model": {"every": 8, "per_doubling": 0}, "state": {"every": 16}, "keep_states": 2},
    "capture": {"every": 12},
    "evaluation": {"every": 20, "tasks": ["perplexity"]},
}


def busy(**changes: Any) -> Config:
    return load_config("demo", {**BUSY, **changes})


def costing(**changes: Any) -> Costing:
    values: dict[str, Any] = {
        "flops_per_token": 6.0,
        "tokens_per_step": step_tokens(busy()),
        "fixed_seconds": FIXED,
        "step_seconds": STEP,
        "event_seconds": SECONDS,
        "fixed_bytes": 1000,
        "part_bytes": {"line": 1, "model": 100, "state": 10_000, "validation": 3, "capture": 500, "evaluation": 70},
        "measured": True,
    }
    return Costing(**{**values, **changes})


def test_events_strictly_between_the_ends_are_counted() -> None:
    # Models: 8, 24 (16 and 32 are states), 12, 36 of captures, 20 of an evaluation; 40 is the end, 0 the beginning.
    assert events_of(busy(), 0, 40) == {"model": 5, "state": 2, "validation": 3, "capture": 3, "evaluation": 1}
    assert events_of(busy(), 16, 40) == {"model": 3, "state": 1, "validation": 2, "capture": 2, "evaluation": 1}


@given(every=st.integers(0, 9), doubling=st.integers(0, 3), first=st.integers(0, 20))
def test_counting_equals_asking_at_every_step(every: int, doubling: int, first: int) -> None:
    config = busy(**{"checkpoints.model": {"every": every, "per_doubling": doubling}, "validation.every": every})
    each: Counter[Event] = Counter(event for step in range(first + 1, 40) for event in happening(config, step))
    assert events_of(config, first, 40) == each


def test_time_room_and_operations_of_a_run() -> None:
    found = costing().cost(busy())
    assert found.flops == 6.0 * 40 * 32 * 128
    assert found.seconds == pytest.approx(FIXED + 40 * STEP + 5 * 0.5 + 2 * 1.5 + 3 * 2.0 + 3 * 3.0 + 1 * 5.0)
    # Models at 0, 8, 12, 16, 20, 24, 32, 36, 40; the last two states; captures at 12, 24, 36; evaluations at 20, 40.
    assert parts_of(busy()) == {
        "line": 40,
        "model": 9,
        "state": 2,
        "validation": 5,
        "capture": 3,
        "evaluation": 2,
    }
    assert found.disk_bytes == 1000 + 40 + 900 + 20_000 + 15 + 1500 + 140


def test_a_larger_batch_takes_proportionally_long_and_a_fork_its_own_part_only() -> None:
    once, twice = busy(), busy(**{"training.batch_size": 64})
    beyond = costing().training_seconds(twice) - costing().training_seconds(once)
    assert beyond == pytest.approx(40 * STEP)
    assert costing().cost(once, 16).flops == 6.0 * 24 * 32 * 128
    assert costing().training_seconds(once, 16) == pytest.approx(24 * STEP + 3 * 0.5 + 1.5 + 2 * 2.0 + 2 * 3.0 + 5.0)


def record(config: Config, *, warm_up: float = 0.0, lag: dict[int, float] | None = None) -> Reading:
    """What a short run writes where a step takes STEP, the first one longer, and events what SECONDS say.

    What `lag` says of a step, the update after it takes longer: that is how writing beside the training shows.
    """
    clock, timings = 1.0, []
    for step in range(1, config.training.steps + 1):
        took = STEP + (warm_up if step == 1 else 0.0) + (lag or {}).get(step - 1, 0.0)
        clock += took
        timings.append({"step": step, "seconds": clock, "step_seconds": took})
        clock += sum(SECONDS[event] for event in happening(config, step)) if step < config.training.steps else 0.0
    events = events_of(config, 0, config.training.steps)
    beside = sum(n * SECONDS[event] for event, n in events.items())
    wall = FIXED + config.training.steps * STEP + beside + warm_up + sum((lag or {}).values())
    parts = parts_of(config)
    room = {part: n * costing().part_bytes[part] for part, n in parts.items()}
    return Reading(wall, timings, 1000, {part: int(size) for part, size in room.items()})


@pytest.mark.parametrize("step_seconds", [0.05, 3.0])
def test_coefficients_are_won_back_from_the_record_of_a_short_run(step_seconds: float) -> None:
    laid = layout(events_wanted(busy(), 0), step_seconds)
    config = short(busy(), laid)
    found = costing_of(config, [record(config), record(config)], 6.0)
    assert found.step_seconds == pytest.approx(STEP) and found.fixed_seconds == pytest.approx(FIXED)
    assert found.event_seconds == pytest.approx(SECONDS)
    assert found.cost(busy()).seconds == pytest.approx(costing().cost(busy()).seconds)
    assert found.cost(busy()).disk_bytes == costing().cost(busy()).disk_bytes


def test_what_is_written_beside_training_belongs_to_its_event_and_a_slow_start_to_every_run() -> None:
    config = short(busy(), layout(events_wanted(busy(), 0), 0.05))
    saved = [step for step in range(1, config.training.steps) if happening(config, step) == ["state"]]
    assert len(saved) == 2
    found = costing_of(config, [record(config, warm_up=4.0, lag=dict.fromkeys(saved, 0.75))], 6.0)
    assert found.step_seconds == pytest.approx(STEP)
    assert found.event_seconds["state"] == pytest.approx(SECONDS["state"] + 0.75)
    assert found.fixed_seconds == pytest.approx(FIXED + 4.0)


def test_a_short_run_has_the_events_of_the_long_one_and_no_others() -> None:
    for changes in ({}, {"evaluation": {}, "capture": {}}, {"checkpoints.state.every": 500, "validation.every": 0}):
        long = busy(**changes)
        wanted = events_wanted(long, 0)
        made = short(long, layout(wanted, 0.2))
        assert set(events_of(made, 0, made.training.steps)) == wanted == set(events_of(long, 0, 40)) | wanted
        assert [happening(made, 0)] == [happening(long, 0)]
        assert made.model == long.model and made.data == long.data and made.training.batch_size == 32
    metrics = {"metrics": ["per"], "metric_sites": ["layers.*.attention.o_proj"], "every": 100}
    assert short(busy(capture=metrics), layout(frozenset(), 0.2)).capture.metrics == ()


def test_a_short_run_of_slow_steps_is_shorter() -> None:
    quick, slow = (layout(frozenset({"model", "validation"}), seconds) for seconds in (0.1, 20.0))
    assert quick.steps == 3 + 4 * 3 + 24 and slow.steps == 3 + 2 * 3 + 4


def test_coefficients_survive_json() -> None:
    assert Costing.of(json.loads(json.dumps(costing().plain()))) == costing()
    with pytest.raises(KeyError):
        Costing.of({"step_seconds": 1.0})


def test_processes_start_as_places_become_free() -> None:
    assert makespan([5, 1, 1, 1, 4], 2) == 7
    assert makespan([3, 2], 1) == 5 and makespan([3, 2], 5) == 3 and makespan([], 2) == 0
