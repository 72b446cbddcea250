"""Episodes: what each holds, how types are drawn, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from picolm.errors import PicoLMError
from picolm.objective.episodes import Episode, EpisodeSampler, EpisodeShape
from picolm.objective.window_pool import WindowPool, Windows
from picolm.randomness import generator

VOCAB, MASK = 60, 0


def pool(windows: int = 300, length: int = 12, seed: int = 0) -> WindowPool:
    """Windows of tokens whose frequencies fall as in text; 0 is the mask, which stands nowhere."""
    weights = 1 / np.arange(1, VOCAB)
    draws = np.random.default_rng(seed).choice(VOCAB - 1, (windows, length), p=weights / weights.sum()) + 1
    return WindowPool(draws.astype(np.int64), VOCAB)


def sampler(shape: EpisodeShape, **changes: object) -> EpisodeSampler:
    settings = {"allowed": np.ones(VOCAB, dtype=bool), "mask_id": MASK, "most": 0.4, **changes}
    return EpisodeSampler(pool(), shape, **settings)  # type: ignore[arg-type]


def drawn(one: EpisodeSampler, *key: int) -> Episode:
    return one.draw(generator(0, "test", *key))


def test_the_index_of_a_pool_is_that_of_a_search() -> None:
    one = pool(50)
    for type in range(VOCAB):
        found = np.flatnonzero((one.tokens == type).any(axis=1))
        np.testing.assert_array_equal(one.holding(type), found)
        assert one.frequencies[type] == len(found)


@given(st.integers(2, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 10**6))
def test_an_episode_is_what_it_says(ways: int, support: int, query: int, seed: int) -> None:
    shape = EpisodeShape(ways, support, query)
    made = sampler(shape)
    one = drawn(made, seed)
    original = made.pool.tokens[one.windows]
    assert one.tokens.shape == (ways * (support + query), 12) and len(set(one.types.tolist())) == ways
    first, second = one.labels[: shape.n_support], one.labels[shape.n_support :]
    # Each class as often as the others, in both parts, so that a constant answer is at chance.
    assert np.bincount(first, minlength=ways).tolist() == [support] * ways
    assert np.bincount(second, minlength=ways).tolist() == [query] * ways
    assert len(set(one.windows.tolist())) == shape.rows
    for row, label in enumerate(one.labels):
        mine = original[row] == one.types[label]
        # Every occurrence is masked, nothing else is, and no other class of the episode is there.
        np.testing.assert_array_equal(one.tokens[row] == MASK, mine)
        np.testing.assert_array_equal(one.tokens[row][~mine], original[row][~mine])
        assert set(original[row].tolist()) & set(one.types.tolist()) == {one.types[label]}
        assert one.positions[row] == np.flatnonzero(mine)[-1]
    frequencies = made.pool.frequencies[one.types]
    assert frequencies.min() >= support + query and frequencies.max() <= 0.4 * 300


def test_types_are_drawn_by_a_power_of_their_frequency() -> None:
    for gamma in (0.0, 0.3, 1.0):
        made = sampler(EpisodeShape(2, 1, 1), gamma=gamma, most=1.0)
        draw = generator(0, "types", str(gamma))
        # Without replacement: the first of two by their weights, and the second by the weights of the others.
        pairs = np.array([made._types(draw) for _ in range(20_000)])
        weights = made.pool.frequencies[made.candidates].astype(float) ** gamma
        first = weights / weights.sum()
        ordered = first[:, None] * first[None] / (1 - first[:, None])
        both = (ordered + ordered.T) * (1 - np.eye(len(first)))
        counts = np.bincount(pairs.ravel(), minlength=VOCAB)[made.candidates]
        assert chisquare(counts, both.sum(axis=0) / 2 * counts.sum()).pvalue > 1e-3
        # A label says nothing about how frequent its type is.
        is_frequent = made.pool.frequencies[pairs[:, 0]] > made.pool.frequencies[pairs[:, 1]]
        differs = made.pool.frequencies[pairs[:, 0]] != made.pool.frequencies[pairs[:, 1]]
        share, n = is_frequent[differs].mean(), int(differs.sum())
        assert abs(share - 0.5) < 4 * math.sqrt(0.25 / n)


def test_the_same_key_is_the_same_episode_and_another_another_one() -> None:
    made, again = (sampler(EpisodeShape(3, 2, 2)) for _ in range(2))
    for key in range(5):
        ours, theirs = drawn(made, key), drawn(again, key)
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert not np.array_equal(drawn(made, 1).windows, drawn(made, 2).windows)


def test_shuffled_labels_stay_balanced_and_say_nothing() -> None:
    shape = EpisodeShape(4, 3, 2)
    plain, placebo = sampler(shape), sampler(shape, shuffled=True)
    agree = []
    for key in range(800):
        ours, theirs = drawn(plain, key), drawn(placebo, key)
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)
        for part in (slice(0, shape.n_support), slice(shape.n_support, None)):
            assert sorted(ours.labels[part]) == sorted(theirs.labels[part])
        agree.append((ours.labels == theirs.labels).mean())
    # A random deal agrees with the right one in one row of four.
    assert abs(np.mean(agree) - 0.25) < 4 * np.std(agree) / math.sqrt(len(agree))


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(PicoLMError, match="an episode of 60 classes cannot be drawn"):
        sampler(EpisodeShape(60, 2, 2))
    with pytest.raises(PicoLMError, match="an episode of 2 classes cannot be drawn: 1 of the types"):
        sampler(EpisodeShape(2, 2, 2), allowed=np.arange(VOCAB) == 9)
    # Types that always stand together: no window has one of them alone.
    together = WindowPool(np.tile(np.array([1, 2, 3]), (20, 1)), VOCAB)
    made = EpisodeSampler(together, EpisodeShape(2, 1, 1), allowed=np.ones(VOCAB, dtype=bool), mask_id=MASK)
    with pytest.raises(PicoLMError, match="no 2 types were found that each stand in 2 windows without the others"):
        made.draw(generator(0, "never"))


def test_selections_that_are_given_up_are_counted() -> None:
    # 1 and 2 always stand together; each of them goes with 3.
    rows = [[1, 2]] * 6 + [[3, 4]] * 6
    made = EpisodeSampler(
        WindowPool(np.array(rows), VOCAB), EpisodeShape(2, 2, 2), allowed=np.ones(VOCAB, dtype=bool), mask_id=MASK
    )
    redraws = [drawn(made, key).redraws for key in range(200)]
    assert min(redraws) == 0 and max(redraws) > 0


def test_pools_follow_one_another_through_all_windows() -> None:
    windows = Windows(n_rows=11, per_row=3, length=5, key=("a",))
    seen = [tuple(pair) for number in range(3) for pair in zip(*windows.chosen(number, 11), strict=True)]
    assert sorted(seen) == [(row, start) for row in range(11) for start in (0, 5, 10)]
    # The fourth is the first again, and one that is too large is everything.
    np.testing.assert_array_equal(windows.chosen(3, 11), windows.chosen(0, 11))
    assert len(windows.chosen(0, 1000)[0]) == 33


def test_nothing_draws_from_a_global_generator() -> None:
    made = sampler(EpisodeShape(3, 2, 2))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    drawn(made, 7)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
