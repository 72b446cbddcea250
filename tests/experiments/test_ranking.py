"""Rankings: means over seeds, what may be compared, and what seeds do not tell apart."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy import stats

from picolm.experiments.findings import RunRecord, State
from picolm.experiments.plan import Plan
from picolm.experiments.quantity import Number
from picolm.experiments.ranking import rankings, value_of
from picolm.terminal.ranking import print_rankings

LOSS = "final validation loss"


def plan(n_points: int, **changes: Any) -> Plan:
    sweep = {"grid": {"optimizer.learning_rate": [0.001 * n for n in range(1, n_points + 1)]}, **changes}
    return Plan.model_validate({"experiment": 1, "name": "s", "base": "demo", "sweep": sweep, "seeds": 3})


def runs(table: dict[str, list[float | None]], *, size: str = "", state: State = "finished") -> list[RunRecord]:
    return [
        RunRecord(f"{arm}.seed{n}", arm, size, f"seed{n}", state, 1, 1, None, {} if v is None else {LOSS: Number(v)})
        for arm, values in table.items()
        for n, v in enumerate(values)
    ]


def test_the_best_mean_is_first_with_paired_intervals_of_the_others() -> None:
    a, b, c = [3.0, 3.3, 3.6], [2.9, 3.2, 3.52], [3.4, 3.1, 3.3]
    (found,) = rankings(plan(3), runs({"p001": a, "p002": b, "p003": c}))
    assert [one.arm for one in found.points] == ["p002", "p003", "p001"]
    assert found.points[0].mean == pytest.approx(sum(b) / 3) and found.points[0].sd == pytest.approx(stats.tstd(b))
    assert found.best is found.points[0] and found.best.behind is None
    test = stats.ttest_rel(a, b).confidence_interval(0.95)
    interval = found.points[2].interval
    assert interval is not None and (interval.low, interval.high) == pytest.approx((test.low, test.high))
    # The spread of seeds is larger than the difference to p001, but the same in both, so that pairs tell them apart.
    assert found.as_good == ["p003"]


def test_highest_turns_the_order_and_not_the_sign_of_being_behind() -> None:
    table: dict[str, list[float | None]] = {"p001": [1.0, 1.1, 1.2], "p002": [2.0, 2.2, 2.1]}
    (low,), (high,) = (rankings(plan(2, choose=choose), runs(table)) for choose in ("lowest", "highest"))
    assert [one.arm for one in low.points] == ["p001", "p002"] and [one.arm for one in high.points] == ["p002", "p001"]
    assert low.points[1].behind == high.points[1].behind == pytest.approx(1.0)


def test_what_lacks_a_seed_is_never_best() -> None:
    found = rankings(
        plan(4),
        [
            *runs({"p001": [1.0, 1.0, None], "p003": [None] * 3}),
            *runs({"p002": [5.0, 5.0, 5.0], "p004": [1.0, math.nan, 1.0]}),
        ],
    )[0]
    assert [one.arm for one in found.points] == ["p002", "p001", "p004", "p003"]
    assert found.best is not None and found.best.arm == "p002" and found.as_good == []
    assert [(one.n, one.failed) for one in found.points] == [(3, 0), (2, 0), (2, 1), (0, 0)]


def test_runs_that_are_not_at_their_end_have_no_number() -> None:
    (found,) = rankings(plan(1), runs({"p001": [1.0, 2.0, 3.0]}, state="running"))
    assert found.best is None and found.points[0].mean is None
    (found,) = rankings(plan(1), [])
    assert found.best is None


def test_what_was_never_reached_is_told_and_not_averaged() -> None:
    asked = {"validation": "loss", "reaches": 3.0}
    made = plan(2, measure=asked)
    assert made.sweep is not None
    words = made.sweep.measure.words
    table = {"p001": [(100.0, True), (90.0, False), (95.0, False)], "p002": [(200.0, False)] * 3}
    records = [
        RunRecord(f"{arm}.seed{n}", arm, "", f"seed{n}", "finished", 1, 1, None, {words: Number(value, censored)})
        for arm, values in table.items()
        for n, (value, censored) in enumerate(values)
    ]
    (found,) = rankings(made, records)
    assert found.best is not None and found.best.arm == "p002" and found.points[1].censored == 1
    assert value_of(made, records[:3]) is None and value_of(made, records[3:]) == 200.0


def test_sizes_are_ranked_apart_and_told_to_a_proposer_together() -> None:
    made = plan(2).model_copy(update={"sizes": {"s": {}, "l": {}}})
    small: dict[str, list[float | None]] = {"p001": [4.0, 4.2], "p002": [5.0, 5.0]}
    large: dict[str, list[float | None]] = {"p001": [3.0, 3.2], "p002": [2.0, 2.0]}
    records = [*runs(small, size="s"), *runs(large, size="l")]
    bests = [found.best.arm for found in rankings(made, records) if found.best is not None]
    assert bests == ["p001", "p002"]
    assert value_of(made, [run for run in records if run.arm == "p001"]) == pytest.approx((4.1 + 3.1) / 2)
    assert value_of(made, [run for run in records if run.arm == "p001" and run.size == "s"]) is None


def test_what_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    found = rankings(plan(3), runs({"p001": [1.0, 1.1, 1.2], "p002": [1.1, 1.05, 1.3], "p003": [1.0, None, None]}))
    print_rankings([one.plain() for one in found])
    out = capsys.readouterr().out
    rows = [line.split("  ") for line in out.splitlines()]
    assert rows[1][0] == "p001" and "1.1000" in out and "best" in out and "1 of 3" in out
    assert "p001 is best, but seeds do not tell it from p002; on other seeds" in out
    assert "optimizer.learning_rate: 0.001" in out
