"""Measures of labels equal their definitions, computed one text at a time."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.evaluation.agreement import Counts, measured, measures, resampled_counts

LABELS = 4
pairs = st.lists(st.tuples(st.integers(0, LABELS - 1), st.integers(0, LABELS - 1)), min_size=1, max_size=30)


def arrays(both: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    gold, predicted = np.array(both, dtype=np.int64).T
    return gold, predicted


@given(pairs)
def test_accuracy_and_f1_are_their_definitions(both: list[tuple[int, int]]) -> None:
    gold, predicted = arrays(both)
    counts = Counts.of(gold, predicted, LABELS)
    assert counts.accuracy() == pytest.approx(sum(g == p for g, p in both) / len(both))
    present = []
    for label in range(LABELS):
        true = sum(g == p == label for g, p in both)
        said, there = sum(p == label for _, p in both), sum(g == label for g, _ in both)
        precision, recall = true / said if said else 0.0, true / there if there else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        assert counts.f1(label) == pytest.approx(f1)
        present += [f1] if said or there else []
    assert counts.macro_f1() == pytest.approx(np.mean(present))


@given(pairs)
def test_mcc_is_the_correlation_of_indicators(both: list[tuple[int, int]]) -> None:
    """R_K is cov(X, Y) / sqrt(cov(X, X) cov(Y, Y)) of one-hot vectors, the covariances summed over labels."""
    gold, predicted = arrays(both)
    x, y = np.eye(LABELS)[predicted], np.eye(LABELS)[gold]

    def covariance(a: np.ndarray, b: np.ndarray) -> float:
        return float(((a - a.mean(0)) * (b - b.mean(0))).sum())

    below = covariance(x, x) * covariance(y, y)
    expected = covariance(x, y) / math.sqrt(below) if below > 1e-12 else 0.0
    assert Counts.of(gold, predicted, LABELS).mcc() == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_with_two_labels_mcc_is_phi(both: list[tuple[bool, bool]]) -> None:
    gold, predicted = arrays([(int(g), int(p)) for g, p in both])
    tp, tn, fp, fn = (
        sum(1 for g, p in both if (g, p) == cell)
        for cell in ((True, True), (False, False), (False, True), (True, False))
    )
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    phi = (tp * tn - fp * fn) / math.sqrt(below) if below else 0.0
    counts = Counts.of(gold, predicted, 2)
    assert counts.mcc() == pytest.approx(phi, abs=1e-12)
    assert counts.f1(1) == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0)


def test_worked_examples() -> None:
    """Three labels and three texts of each, by hand."""
    gold = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    counts = Counts.of(gold, np.array([0, 0, 1, 1, 1, 1, 2, 0, 0]), 3)
    assert counts.accuracy() == pytest.approx(6 / 9)
    assert [float(counts.f1(label)) for label in range(3)] == pytest.approx([4 / 7, 6 / 7, 1 / 2])
    assert counts.macro_f1() == pytest.approx((4 / 7 + 6 / 7 + 1 / 2) / 3)
    # c n - sum p t = 54 - 3 (4 + 4 + 1); n^2 - sum p^2 = 81 - 33; n^2 - sum t^2 = 81 - 27.
    assert counts.mcc() == pytest.approx((54 - 27) / math.sqrt(48 * 54))
    # A label that is neither there nor predicted has no part in the mean; one that is only predicted has.
    assert Counts.of(np.array([0, 0]), np.array([0, 0]), 3).macro_f1() == 1.0
    assert Counts.of(np.array([0, 0]), np.array([0, 1]), 3).macro_f1() == pytest.approx((2 / 3 + 0) / 2)


def test_a_constant_answer_has_no_correlation() -> None:
    gold = np.array([0, 0, 1])
    for label in (0, 1):
        assert Counts.of(gold, np.full(3, label), 2).mcc() == 0.0
    assert Counts.of(gold, gold, 2).mcc() == pytest.approx(1.0)
    assert Counts.of(gold, 1 - gold, 2).mcc() == pytest.approx(-1.0)


@given(pairs)
def test_names_of_labels_do_not_matter(both: list[tuple[int, int]]) -> None:
    gold, predicted = arrays(both)
    other = np.array([2, 0, 3, 1])
    before, after = (
        measures(Counts.of(*own, LABELS), None) for own in ((gold, predicted), (other[gold], other[predicted]))
    )
    assert before.keys() == after.keys() == {"accuracy", "macro_f1", "mcc"}
    for name in before:
        assert before[name] == pytest.approx(after[name], abs=1e-12)


def test_errors_are_those_of_drawing_texts_again_and_again() -> None:
    """Against a bootstrap that draws one text at a time."""
    draw = np.random.default_rng(0)
    gold = draw.integers(0, 3, 300)
    predicted = [np.where(draw.random(300) < share, gold, draw.integers(0, 3, 300)) for share in (0.6, 0.5)]
    found = measured(gold, predicted, 3, positive=2, key="x")
    slow = []
    for _ in range(2000):
        places = draw.integers(0, 300, 300)
        both = [measures(Counts.of(gold[places], own[places], 3), 2) for own in predicted]
        slow.append([np.mean([float(own[name]) for own in both]) for name in found])
    np.testing.assert_allclose([one.se for one in found.values()], np.std(slow, axis=0), rtol=0.12)
    for name, one in found.items():
        values = [float(measures(Counts.of(gold, own, 3), 2)[name]) for own in predicted]
        assert one.value == pytest.approx(np.mean(values)) and one.seed_sd == pytest.approx(np.std(values, ddof=1))
    right = [own == gold for own in predicted]
    assert found["accuracy"].se == pytest.approx(np.mean(right, axis=0).std(ddof=1) / math.sqrt(300))
    assert measured(gold, predicted, 3, positive=2, key="x") == found
    (alone,) = [measured(gold[:1], [gold[:1]], 3, positive=None, key="x")]
    assert all(one.se is None and one.seed_sd is None for one in alone.values())


def test_a_draw_has_as_many_texts_as_there_are() -> None:
    gold, predicted = np.array([0, 1, 1, 2, 2, 2]), np.array([0, 1, 2, 2, 1, 0])
    (counts,) = resampled_counts(gold, [predicted], 3, draws=50, key="x")
    assert counts.gold.shape == (50, 3) and set(counts.gold.sum(1)) == set(counts.predicted.sum(1)) == {6.0}
    assert bool((counts.right <= np.minimum(counts.gold, counts.predicted)).all())
    assert len(np.unique(counts.gold, axis=0)) > 5
