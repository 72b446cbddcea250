"""Mixtures: exact counts in every block, passes within a domain, purity, and a run that has one."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import picolm
from picolm.assembly.ingredients import order, prepare
from picolm.config.loading import build_config
from picolm.errors import PicoLMError
from picolm.seams import Plan
from picolm.training.batches import Batches
from picolm.training.mixture import BLOCK, MixturePlan, resolve_shares

SHARES = {"a": 0.5, "b": 0.333, "c": 0.167}
PARTS = {"a": range(0, 40), "b": range(40, 2000), "c": range(2000, 2007)}


def mixture(batch_size: int = 7, seed: int = 0, fingerprint: str = "abc") -> MixturePlan:
    return MixturePlan(parts=PARTS, shares=SHARES, batch_size=batch_size, fingerprint=fingerprint, seed=seed)


def numbers(plan: Plan, end: int) -> list[int]:
    rows: list[int] = []
    step = 0
    while len(rows) < end:
        rows += plan.rows(step).tolist()
        step += 1
    return rows[:end]


def test_every_block_has_exactly_its_shares() -> None:
    drawn = np.array(numbers(mixture(13), 4 * BLOCK)).reshape(4, BLOCK)
    for block in drawn:
        for name, part in PARTS.items():
            assert ((block >= part.start) & (block < part.stop)).sum() == round(SHARES[name] * BLOCK)
    assert (drawn[0] < 40).tolist() != (drawn[1] < 40).tolist()


def test_a_domain_comes_round_only_when_all_of_it_was_drawn() -> None:
    end = 6 * BLOCK
    drawn = numbers(mixture(100), end)
    for part in PARTS.values():
        counts = Counter(row for row in drawn if row in part)
        assert set(counts) <= set(part)
        # All passes but those cut by a block's border: no row can be more than two passes ahead of another.
        passes = [counts[row] for row in part]
        assert max(passes) - min(passes) <= 2
    exact = Counter(row for row in drawn if row in PARTS["a"])
    assert set(exact.values()) == {3000 // 40}


@pytest.mark.parametrize("batch_size", [7, 64, 1000, 1500])
def test_the_batch_size_regroups_one_and_the_same_order(batch_size: int) -> None:
    # Numbers 950 to 1100 lie in two blocks; each batch that holds one of them is drawn by itself.
    plan = mixture(batch_size)
    steps = range(950 // batch_size, 1100 // batch_size + 1)
    drawn = np.concatenate([plan.rows(step) for step in steps])[950 - steps.start * batch_size :]
    one_by_one = [int(mixture(1).rows(number)[0]) for number in range(950, 1100)]
    assert drawn[:150].tolist() == one_by_one


def test_the_order_depends_on_seed_and_fingerprint_and_not_on_what_came_before() -> None:
    reference = numbers(mixture(), 700)
    assert numbers(mixture(seed=1), 700) != reference
    assert numbers(mixture(fingerprint="x"), 700) != reference
    assert mixture().rows(10**9).tolist() == mixture().rows(10**9).tolist()
    assert numbers(mixture(7), 7 * 60)[7 * 50 : 7 * 51] == mixture(7).rows(50).tolist()


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 200), st.integers(0, 8), st.lists(st.integers(0, 2006), max_size=6, unique=True))
def test_draws_are_those_that_a_look_at_every_step_finds(batch_size: int, steps: int, rows: list[int]) -> None:
    plan, wanted = mixture(batch_size), np.array(rows, dtype=np.int64)
    assert plan.draws(wanted, steps) == Plan.draws(plan, wanted, steps)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcdefg"), st.floats(0.01, 100.0), min_size=1))
def test_shares_add_up_and_are_as_near_as_thousandths_can_be(weights: dict[str, float]) -> None:
    total = sum(weights.values())
    try:
        shares = resolve_shares(weights, dict.fromkeys("abcdefg"))
    except PicoLMError:
        assert min(weights.values()) / total < 1 / BLOCK
        return
    assert sum(round(share * BLOCK) for share in shares.values()) == BLOCK
    assert all(abs(shares[name] - weight / total) < 1 / BLOCK + 1e-9 for name, weight in weights.items())
    assert resolve_shares(shares, dict.fromkeys("abcdefg")) == shares
    reverse = dict(reversed(weights.items()))
    assert resolve_shares(reverse, dict.fromkeys("abcdefg")) == shares


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"upp": 1.0}, "data.mixture names the domain 'upp', which the data do not have; did you mean 'up'"),
        ({"up": 0.0}, "data.mixture gives no domain a weight above zero"),
        ({"up": 1.0, "down": 10_000.0}, "gives 'up' 1 of 10001, less than the smallest share, 1 of 1000"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(PicoLMError, match=message):
        resolve_shares(weights, {"up": None, "down": None})


def test_a_weight_below_zero_is_refused(small_run: dict[str, object]) -> None:
    with pytest.raises(PicoLMError, match=r"data\.mixture\.up must be greater than or equal to 0, not -1"):
        picolm.load_config(None, {**small_run, "data.mixture": {"up": -1.0}})


def test_a_run_draws_its_mixture_and_records_it(small_run: dict[str, Any], tmp_path: Path) -> None:
    config = picolm.load_config(None, {**small_run, "data.mixture": {"up": 3, "down": 0}, "training.steps": 4})
    run = picolm.train(config, name="mixed", runs_dir=tmp_path)
    resolved = build_config(run.identity["config"])
    assert resolved.data.mixture == {"up": 1.0, "down": 0.0}
    ingredients = prepare(resolved)
    assert ingredients.config == resolved
    plan, split = order(ingredients), ingredients.data.split("train")
    up = set(split.domain_documents("up").tolist())
    rows = ingredients.rows
    views: list[Any] = []

    class Recording:
        def views(self, sequences: Any, *, measure: bool) -> tuple[()]:
            views.append(sequences)
            return ()

    batches = Batches(plan, rows, Recording(), first=0, last=4, prefetch=1, workers=1, pin=False)  # type: ignore[arg-type]
    assert [batches.take(step) for step in range(4)] == [()] * 4
    batches.close()
    for sequences in views:
        assert set(sequences.documents.ravel().tolist()) <= up
        assert sequences.documents.shape == sequences.tokens.shape
        assert sequences.tags is None


def test_the_same_prepared_data_serve_any_mixture(small_run: dict[str, Any]) -> None:
    plain = prepare(picolm.load_config(None, small_run))
    mixed = prepare(picolm.load_config(None, {**small_run, "data.mixture": {"up": 1, "down": 2}}))
    assert plain.data.directory == mixed.data.directory
    assert mixed.config.data.mixture == {"up": 0.333, "down": 0.667}
    assert isinstance(order(mixed), MixturePlan)
