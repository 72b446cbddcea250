import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from picolm.config import schema
from picolm.config.loading import load_config
from picolm.errors import PicoLMError
from picolm.seams import Plan
from picolm.training.plan import EpochPlan
from picolm.training.schedule import learning_rate_multiple


def multiples(kind: str, warmup: int, steps: int, **options: object) -> list[float]:
    schedule = TypeAdapter(schema.Schedule).validate_python({"kind": kind, "warmup_steps": warmup, **options})
    return [learning_rate_multiple(schedule, step, steps) for step in range(steps)]


def test_linear_by_hand() -> None:
    assert multiples("linear", 4, 8) == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2])
    assert multiples("linear", 0, 4) == pytest.approx([1, 0.75, 0.5, 0.25])
    assert multiples("linear", 1, 4, final_fraction=0.5) == pytest.approx([1, 0.875, 0.75, 0.625])


def test_cosine_by_hand() -> None:
    halves = [(1 + math.cos(math.pi * u)) / 2 for u in (0, 0.25, 0.5, 0.75)]
    assert multiples("cosine", 1, 4) == pytest.approx(halves)
    assert multiples("cosine", 3, 6, final_fraction=0.1)[2:] == pytest.approx([0.1 + 0.9 * h for h in halves])


def test_constant_and_a_decay_that_ends_before_the_run() -> None:
    assert multiples("constant", 2, 5) == [0.5, 1, 1, 1, 1]
    assert multiples("linear", 1, 6, decay_steps=3, final_fraction=0.25) == pytest.approx(
        [1, 0.75, 0.5, 0.25, 0.25, 0.25]
    )


def test_the_published_schedule_of_the_suite() -> None:
    at = multiples("linear", 2500, 200_000)
    assert max(at) == 1.0 and at.index(1.0) == 2499
    assert at[-1] == pytest.approx(1 / (200_000 - 2499))
    assert at[124_999] == pytest.approx(75_001 / 197_501)


def test_warmup_stable_decay_by_hand() -> None:
    flat = [0.5, 1, 1, 1, 1, 1]
    assert multiples("wsd", 2, 10, decay_steps=4, shape="linear") == pytest.approx([*flat, 1, 0.75, 0.5, 0.25])
    assert multiples("wsd", 2, 10, decay_fraction=0.4, shape="linear", final_fraction=0.5) == pytest.approx(
        [*flat, 1, 0.875, 0.75, 0.625]
    )
    assert multiples("wsd", 2, 10, decay_fraction=0.4) == pytest.approx([*flat, 1, 0.5, 1 - 0.5**0.5, 1 - 0.75**0.5])
    halves = [(1 + math.cos(math.pi * u)) / 2 for u in (0, 0.25, 0.5, 0.75)]
    assert multiples("wsd", 2, 10, decay_steps=4, shape="cosine") == pytest.approx([*flat, *halves])


def test_the_trunk_of_a_stable_schedule_does_not_depend_on_how_long_the_run_is() -> None:
    # What makes it worth having: one trunk, from which runs of several lengths branch off.
    short, long = (multiples("wsd", 5, steps, decay_steps=10) for steps in (40, 90))
    assert short[:30] == long[:30] and short[30:] == long[80:]


def test_restarts_by_hand() -> None:
    def cycle(n: int) -> list[float]:
        return [(1 + math.cos(math.pi * k / n)) / 2 for k in range(n)]

    assert multiples("restarts", 1, 12, period=4) == pytest.approx(cycle(4) * 3)
    assert multiples("restarts", 3, 16, period=2, period_factor=2)[2:] == pytest.approx(cycle(2) + cycle(4) + cycle(8))
    lower = [0.1 + 0.9 * value for value in cycle(4)]
    assert multiples("restarts", 0, 8, period=4, peak_factor=0.5, final_fraction=0.1) == pytest.approx(
        [*lower, *(0.5 * value for value in lower)]
    )
    again = [0.5, *cycle(3)]
    assert multiples("restarts", 0, 12, period=4, rewarmup_steps=2) == pytest.approx([*cycle(4), *again, *again])


def test_equal_cycles_are_found_without_walking_through_them() -> None:
    schedule = schema.Restarts(period=3, warmup_steps=0, peak_factor=1.0)
    assert learning_rate_multiple(schedule, 3 * 10**12 + 1, 10**13) == learning_rate_multiple(schedule, 1, 10)


def test_inverse_root_by_hand() -> None:
    assert multiples("inverse_root", 4, 16) == pytest.approx(
        [0.25, 0.5, 0.75, 1, *((4 / step) ** 0.5 for step in range(5, 17))]
    )
    assert multiples("inverse_root", 0, 4) == pytest.approx([1, 2**-0.5, 3**-0.5, 0.5])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"kind": "wsd", "warmup_steps": 30, "decay_steps": 80}, "warmup_steps 30 and a decay of 80 steps do not fit"),
        ({"kind": "wsd", "warmup_steps": 90}, "warmup_steps 90 and a decay of 20 steps do not fit"),
        ({"kind": "restarts", "period": 5, "rewarmup_steps": 5}, "5 leave nothing of a period of 5 steps"),
        ({"kind": "constant", "final_fraction": 0.1}, r"final_fraction means nothing to schedule\.kind=constant"),
        ({"kind": "cosine", "warmup_steps": 101}, "warmup_steps 101 is beyond the step at which the decay ends, 100"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused(overrides: dict[str, object], sentence: str) -> None:
    with pytest.raises(PicoLMError, match=sentence):
        load_config(None, {"training.steps": 100, "schedule": {"warmup_steps": 0, **overrides}})


KINDS = {"linear", "cosine", "constant", "wsd", "inverse_root"}


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 20), st.integers(26, 60), st.floats(0, 1))
def test_up_then_down_and_never_outside(kind: str, warmup: int, steps: int, final: float) -> None:
    ends = kind not in ("constant", "inverse_root")
    values = multiples(kind, warmup, steps, **({"final_fraction": final} if ends else {}))
    peak = values.index(max(values))
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert all(0 < value <= 1 + 1e-12 for value in values)
    assert not ends or min(values[max(warmup, 1) :]) >= final * (1 - 1e-12)


@given(st.integers(0, 9), st.integers(2, 20), st.floats(1, 3), st.floats(0.1, 1), st.integers(0, 1))
def test_each_cycle_falls_from_its_own_peak(
    warmup: int, period: int, factor: float, peak_factor: float, rewarmup: int
) -> None:
    values = multiples(
        "restarts", warmup, 80, period=period, period_factor=factor, peak_factor=peak_factor, rewarmup_steps=rewarmup
    )[max(warmup - 1, 0) :]
    start, length, cycle = 0, period, 0
    while start < len(values):
        here = values[start : start + length]
        assert here[0] == pytest.approx(peak_factor**cycle)
        assert here == sorted(here, reverse=True) and min(here) >= 0
        start, cycle = start + length, cycle + 1
        length = round(period * factor**cycle)


def rows_of(plan: EpochPlan, steps: int) -> list[int]:
    return [row for step in range(steps) for row in plan.rows(step).tolist()]


def plan(n_rows: int = 50, batch_size: int = 7, fingerprint: str = "abc", seed: int = 0) -> EpochPlan:
    return EpochPlan(n_rows=n_rows, batch_size=batch_size, fingerprint=fingerprint, seed=seed)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 80))
def test_each_pass_shows_each_row_once(n_rows: int, batch_size: int) -> None:
    drawn = rows_of(plan(n_rows, batch_size), -(-3 * n_rows // batch_size))
    for epoch in range(3):
        assert sorted(drawn[epoch * n_rows : (epoch + 1) * n_rows]) == list(range(n_rows))


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9))
def test_the_batch_size_regroups_one_and_the_same_order(first: int, second: int) -> None:
    n = 9 * 8 * 7
    assert (
        rows_of(plan(batch_size=first), n // first)[: n // 2] == rows_of(plan(batch_size=second), n // second)[: n // 2]
    )


def test_order_depends_on_seed_fingerprint_and_pass() -> None:
    reference = rows_of(plan(batch_size=50), 2)
    assert rows_of(plan(batch_size=50, seed=1), 2) != reference
    assert rows_of(plan(batch_size=50, fingerprint="abd"), 2) != reference
    assert reference[:50] != reference[50:]
    assert reference[:50] != sorted(reference[:50])


def test_any_step_can_be_asked_for_first() -> None:
    far = plan(n_rows=10**9, batch_size=1024)
    rows = far.rows(10**7)
    assert rows.dtype == np.int64 and len(set(rows.tolist())) == 1024
    assert (far.rows(10**7) == rows).all() and far.start(10**7) == 1024 * 10**7


@settings(deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 50), st.integers(0, 12), st.lists(st.integers(0, 39), max_size=5, unique=True)
)
def test_draws_are_those_that_a_look_at_every_step_finds(n: int, batch_size: int, steps: int, rows: list[int]) -> None:
    wanted = np.array([row for row in rows if row < n], dtype=np.int64)
    epochs = plan(n, batch_size)
    assert epochs.draws(wanted, steps) == Plan.draws(epochs, wanted, steps)
