"""When cycles begin and end, by brute force; the jagged rate, by its published values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.config import schema
from picolm.interventions.cycles import Cycles
from picolm.interventions.jagged_rate import JaggedRate, published_multiple, rewarmed, rise
from picolm.training.schedule import scheduled_rate

GOLDEN = {
    20_000: {0: 0, 1: 0.0005, 1000: 0.5, 1999: 0.9995, 2000: 0, 2001: 0.009999, 2050: 0.499966, 2099: 0.989932,
             2100: 0.999931, 3999: 0.972889, 4000: 0, 4001: 0.009701, 4100: 0.970111, 10000: 0, 10050: 0.310198,
             10100: 0.620396, 19999: 0.1},
    200_000: {0: 0, 1: 0.0005, 1000: 0.5, 1999: 0.9995, 2000: 0, 2001: 0.01, 2050: 0.5, 2099: 0.989999, 2100: 0.999999,
              3999: 0.999774, 4000: 0, 4001: 0.009998, 4100: 0.99975, 10000: 0, 10050: 0.498144, 10100: 0.996289,
              19999: 0.981774},
}  # fmt: skip


def multiple(step: int, total_steps: int = 20_000, **changes: int) -> float:
    values = {"warmup_steps": 2000, "period": 2000, "rewarmup_steps": 100, **changes}
    return published_multiple(step, total_steps=total_steps, floor=0.1, **values)


@pytest.mark.parametrize("total_steps", GOLDEN)
def test_the_published_schedule_has_its_published_values(total_steps: int) -> None:
    found = {step: multiple(step, total_steps) for step in GOLDEN[total_steps]}
    # The cosine of the last update of all is not the floor itself: it would be one update later.
    assert found == pytest.approx(GOLDEN[total_steps], abs=1.1e-6)


def test_the_published_schedule_is_continuous_but_for_its_falls() -> None:
    jumps = {step: multiple(step) - multiple(step - 1) for step in range(1, 20_000)}
    assert {step for step, jump in jumps.items() if jump < -0.01} == set(range(2000, 20_000, 2000))
    assert max(jumps.values()) <= 0.01
    for k in range(1, 10):
        assert multiple(2000 * k) == 0
        assert multiple(2000 * k + 100) == pytest.approx(multiple(2000 * k + 100, rewarmup_steps=0))


def test_odd_lengths_are_handled() -> None:
    """A warm-up longer than a period, a period longer than the run, and no re-warm-up at all."""
    assert [multiple(step, warmup_steps=3000) for step in (0, 1500, 2000, 2050)] == pytest.approx(
        [0, 0.5, 2 / 3, 2050 / 3000]
    )
    assert multiple(5000, period=30_000) == multiple(5000, rewarmup_steps=0)
    assert multiple(2000, rewarmup_steps=0) == 1.0
    assert multiple(7, warmup_steps=0, period=7, rewarmup_steps=2) == 0


@given(st.integers(1, 40), st.integers(0, 39), st.integers(0, 30), st.integers(0, 199))
def test_a_rewarmed_rate_joins_the_plain_one(period: int, over: int, start: int, step: int) -> None:
    over = min(over, period - 1)
    plain = scheduled_rate(schema.Cosine(warmup_steps=5), 200)
    rate = JaggedRate(JaggedRate.Settings(period=period, rewarmup_steps=over, start=start)).schedule(plain)
    group = {"peak": 0.3}
    since = max([at for at in range(start, step + 1, period)], default=0)
    place = step - since
    expected = plain(step, group)
    if since > 0 and place < over:
        expected = place / over * plain(since + over, group)
    assert rate(step, group) == pytest.approx(expected)
    assert rewarmed(plain, since + over, group, since=since, over=over) == plain(since + over, group)


def test_a_rise_has_room() -> None:
    assert [rise(None, period) for period in (None, 1, 10, 99, 500, 1000)] == [50, 0, 1, 9, 50, 50]
    assert rise(0, 1) == 0 and rise(9, 10) == 9 and rise(99, None) == 99
    with pytest.raises(ValueError, match="rewarmup_steps 10 leave nothing of a period of 10 updates"):
        JaggedRate.Settings(period=10, rewarmup_steps=10)


CYCLES = st.builds(
    lambda start, every, count, dense, late: Cycles(
        start, None if count is None else start + count * every, every, dense, late
    ),
    st.integers(0, 9),
    st.integers(1, 5),
    st.none() | st.integers(1, 5),
    st.sampled_from([0, 2, 3]),
    st.booleans(),
)


@given(CYCLES)
def test_cycles_are_what_counting_finds(cycles: Cycles) -> None:
    """Walk through the steps, one counter for the place in a cycle and one for the cycle."""
    place = number = 0
    for step in range(60):
        inside = step >= cycles.start and (cycles.stop is None or step < cycles.stop)
        is_dense = bool(cycles.dense_every) and number % cycles.dense_every == cycles.dense_every - 1
        assert cycles.low_rank(step) == (inside and not is_dense)
        if not inside:
            continue
        assert cycles.number(step) == number
        place += 1
        ends = place == cycles.every
        if not cycles.late:
            assert cycles.ends(step + 1) == ends
        if ends:
            place, number = 0, number + 1
    ends = [done for done in range(1, 80) if cycles.ends(done)]
    if cycles.late and cycles.every > 1:
        wanted = {cycles.start + k * cycles.every + 1 for k in range(1, 80)}
        wanted = {done for done in wanted if cycles.stop is None or done <= cycles.stop} | {cycles.stop}
        assert set(ends) == {done for done in wanted if done is not None and done < 80}
    changes = {step for step in range(1, 60) if cycles.low_rank(step) != cycles.low_rank(step - 1)}
    assert changes <= {step for step in range(60) if step in cycles.stages(each=False)}


@given(CYCLES.filter(lambda cycles: not (cycles.late and cycles.every == 1)), st.integers(0, 50))
def test_the_next_end_is_the_first_one_that_comes(cycles: Cycles, done: int) -> None:
    coming = [later for later in range(done + 1, 80) if cycles.ends(later)]
    assert cycles.next_end(done) == (coming[0] if coming else None)


def test_without_cycles_adapters_stay() -> None:
    plain = Cycles(3)
    assert [plain.low_rank(step) for step in (2, 3, 999)] == [False, True, True]
    assert not any(plain.ends(done) for done in range(99)) and plain.next_end(5) is None
    assert Cycles(3, 7).ends(7) and Cycles(3, 7).next_end(4) == 7 and Cycles(3, 7).next_end(7) is None
