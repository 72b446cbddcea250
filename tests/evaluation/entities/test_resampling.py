import numpy as np
import numpy.typing as npt
import pytest

from picolm.evaluation.entities.resampling import compared, resampled_counts
from picolm.evaluation.entities.scores import f1
from picolm.randomness import generator

IntArray = npt.NDArray[np.int64]


def simulated(draw: np.random.Generator, n: int, found: tuple[float, float]) -> tuple[IntArray, IntArray]:
    """Counts of two models on n sentences, [n, 1, 3] each.

    A sentence has 0 to 3 entities, of which a model finds a share that depends on how easy the sentence is, which both
    share; it invents entities too.
    """
    n_entities = draw.integers(0, 4, size=n)
    ease = draw.uniform(0.4, 1.0, size=n)
    both = []
    for share in found:
        tp = draw.binomial(n_entities, ease * share)
        both.append(np.stack([tp, draw.poisson(0.3, size=n), n_entities - tp], axis=1)[:, None].astype(np.int64))
    return both[0], both[1]


def expected_f1(share: float) -> float:
    """Of all sentences that could have been drawn: 1.5 entities, mean ease 0.7, 0.3 inventions."""
    tp = 1.5 * 0.7 * share
    return 2 * tp / (tp + 0.3 + 1.5)


def test_draws_equal_drawing_sentences_one_by_one() -> None:
    """Same mean and covariance as of sums over sentences that are drawn by hand, within what 20,000 draws tell."""
    counts, _ = simulated(generator(0, "test"), 40, (0.5, 0.5))
    drawn = resampled_counts(counts, draws=20_000, seed=0, key="x").reshape(-1, 3)
    draw = np.random.default_rng(1)
    by_hand = counts[draw.integers(0, 40, size=(20_000, 40))].sum(axis=1).reshape(-1, 3)
    exact = 40 * np.cov(counts.reshape(-1, 3).T, bias=True)
    np.testing.assert_allclose(drawn.mean(axis=0), counts.sum(axis=(0, 1)), atol=5 * np.sqrt(exact.max() / 20_000))
    np.testing.assert_allclose(np.cov(drawn.T), exact, atol=0.06 * exact.max())
    np.testing.assert_allclose(np.cov(by_hand.T), exact, atol=0.06 * exact.max())


def test_draws_are_keyed_by_set_and_do_not_depend_on_the_order_of_sentences() -> None:
    counts, _ = simulated(generator(0, "test"), 40, (0.5, 0.5))
    one = resampled_counts(counts, draws=50, seed=0, key="a")
    np.testing.assert_array_equal(one, resampled_counts(counts[::-1], draws=50, seed=0, key="a"))
    assert (one != resampled_counts(counts, draws=50, seed=0, key="b")).any()
    assert (one != resampled_counts(counts, draws=50, seed=1, key="a")).any()


def test_a_model_compared_with_itself_differs_by_nothing() -> None:
    counts, _ = simulated(generator(0, "test"), 60, (0.5, 0.5))
    same = compared({"a": counts}, {"a": counts}, ["a"], draws=500, seed=0)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert same.n_entities == counts[:, 0, [0, 2]].sum() and same.n_sentences == 60


def test_the_difference_of_two_models_and_its_sign() -> None:
    better, worse = simulated(generator(0, "test"), 400, (0.9, 0.4))
    found = compared({"a": better}, {"a": worse}, ["a"], draws=2000, seed=0)
    assert found.one == pytest.approx(float(f1(better.sum(axis=(0, 1)))))
    assert found.other == pytest.approx(float(f1(worse.sum(axis=(0, 1)))))
    assert found.difference == pytest.approx(found.one - found.other)
    assert 0 < found.low < found.difference < found.high
    assert found.p == pytest.approx(2 / 2001), "no draw at all on the other side: the smallest p that draws can give"
    back = compared({"a": worse}, {"a": better}, ["a"], draws=2000, seed=0)
    assert back.difference == pytest.approx(-found.difference) and back.high < 0 and back.p == found.p


def test_models_are_compared_on_the_same_sentences() -> None:
    """Of two models that fail on the same sentences, the difference is surer than each by itself."""
    draw = generator(0, "test")
    counts, _ = simulated(draw, 200, (0.6, 0.6))
    other = counts.copy()
    hit = np.flatnonzero(counts[:, 0, 2])[:5]  # five missed ones more are found
    other[hit, 0, 0] += 1
    other[hit, 0, 2] -= 1
    found = compared({"a": other}, {"a": counts}, ["a"], draws=4000, seed=0)
    alone = f1(resampled_counts(counts, draws=4000, seed=0, key="a")[:, 0])
    assert found.high - found.low < 0.5 * (np.quantile(alone, 0.975) - np.quantile(alone, 0.025))
    assert found.low > 0


def test_seeds_are_averaged_and_may_differ_in_number() -> None:
    parts = [simulated(generator(seed, "test"), 50, (0.5, 0.8)) for seed in range(3)]
    # Only counts matter here, so that sentences of other draws will do.
    one = np.concatenate([part[0] for part in parts], axis=1)
    other = parts[0][1]
    found = compared({"a": one}, {"a": other}, ["a"], draws=200, seed=0)
    assert found.one == pytest.approx(np.mean([float(f1(part[0].sum(axis=(0, 1)))) for part in parts]))
    assert found.other == pytest.approx(float(f1(other.sum(axis=(0, 1)))))


def test_pooled_sets_are_one_set_of_which_each_part_keeps_its_size() -> None:
    parts = {name: simulated(generator(seed, "test"), 30 + seed, (0.5, 0.8)) for seed, name in enumerate("ab")}
    one, other = ({name: part[side] for name, part in parts.items()} for side in (0, 1))
    found = compared(one, other, ["a", "b"], draws=3000, seed=0)
    assert found.one == pytest.approx(float(f1(sum(part.sum(axis=(0, 1)) for part in one.values()))))
    assert found.n_sentences == 61
    alone = compared(one, other, ["a"], draws=3000, seed=0)
    assert found.high - found.low < alone.high - alone.low


@pytest.mark.parametrize("found", [(0.6, 0.6), (0.7, 0.55)])
def test_intervals_hold_the_difference_as_often_as_they_say(found: tuple[float, float]) -> None:
    """95 % of intervals hold the difference of what all sentences would give; 600 of them tell within 2.7 (3 sd)."""
    truth = expected_f1(found[0]) - expected_f1(found[1])
    held = significant = 0
    for trial in range(600):
        one, other = simulated(generator(trial, "coverage"), 150, found)
        difference = compared({"a": one}, {"a": other}, ["a"], draws=400, seed=trial)
        held += difference.low <= truth <= difference.high
        significant += difference.p < 0.05
    assert 0.92 < held / 600 < 0.977
    if truth == 0:
        assert 0.02 < significant / 600 < 0.08, "a p below 0.05 comes as often as it says where nothing differs"
    else:
        assert significant / 600 > 0.3
