import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval import metrics
from seqeval.scheme import IOB2

from picolm.evaluation.entities.iob2 import TAGS, TYPES
from picolm.evaluation.entities.scores import counts, f1, macro_f1, precision, recall

# Names in every other sentence or so, and every illegal sequence.
SENTENCE = st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=8)
SENTENCES = st.lists(SENTENCE, min_size=1, max_size=6)
Both = tuple[list[list[str]], list[list[str]]]

ADVERSARIAL: list[Both] = [
    ([["O"]], [["O"]]),
    ([["B-PER"]], [["O"]]),
    ([["O"]], [["B-PER"]]),
    ([["I-PER"]], [["B-PER"]]),
    ([["B-PER", "I-PER"]], [["B-PER", "B-PER"]]),
    ([["B-PER", "I-LOC"]], [["B-PER", "I-PER"]]),
    ([["B-PER"], ["I-PER"]], [["B-PER"], ["I-PER"]]),
    ([["O", "B-ORG", "I-ORG"], ["B-LOC"]], [["O", "I-ORG", "I-ORG"], ["B-ORG"]]),
]


def check(gold: list[list[str]], predicted: list[list[str]]) -> None:
    for strict in (False, True):
        found = counts(gold, predicted, strict=strict)
        options = {"zero_division": 0, **({"mode": "strict", "scheme": IOB2} if strict else {})}
        sums, micro = found.sum(axis=0), found.sum(axis=(0, 1))
        for own, theirs in ((precision, "precision_score"), (recall, "recall_score"), (f1, "f1_score")):
            assert float(own(micro)) == pytest.approx(getattr(metrics, theirs)(gold, predicted, **options))
        if not sums.any():
            assert float(macro_f1(sums)) == 0
            continue
        assert float(macro_f1(sums)) == pytest.approx(metrics.f1_score(gold, predicted, average="macro", **options))
        by_type = metrics.classification_report(gold, predicted, output_dict=True, **options)
        for kind, own in zip(TYPES, sums, strict=True):
            if own.any():
                report = by_type[kind]
                assert float(f1(own)) == pytest.approx(report["f1-score"])
                assert float(precision(own)) == pytest.approx(report["precision"])
                assert float(recall(own)) == pytest.approx(report["recall"])
                assert int(own[0] + own[2]) == report["support"]
            else:
                assert kind not in by_type


@pytest.mark.parametrize(("gold", "predicted"), ADVERSARIAL)
def test_measures_equal_seqevals_where_it_hurts(gold: list[list[str]], predicted: list[list[str]]) -> None:
    check(gold, predicted)


@given(SENTENCES)
def test_measures_equal_seqevals(sentences: list[list[tuple[str, str]]]) -> None:
    check([[tag for tag, _ in one] for one in sentences], [[tag for _, tag in one] for one in sentences])


def test_micro_and_macro_differ_and_are_called_so() -> None:
    gold = [["B-PER"], ["B-PER"], ["B-PER"], ["B-LOC"]]
    predicted = [["B-PER"], ["B-PER"], ["B-PER"], ["O"]]
    sums = counts(gold, predicted).sum(axis=0)
    assert float(f1(sums.sum(axis=0))) == pytest.approx(6 / 7)
    assert float(macro_f1(sums)) == pytest.approx(1 / 2), "PER 1, LOC 0; ORG is nowhere"


def test_counts_are_those_of_each_sentence() -> None:
    gold = [["B-PER", "O", "B-LOC"], ["O"], ["B-ORG", "I-ORG"]]
    predicted = [["B-PER", "B-LOC", "O"], ["B-PER"], ["B-ORG", "O"]]
    found = counts(gold, predicted)
    # [sentence, PER / ORG / LOC, tp / fp / fn]
    assert found.tolist() == [
        [[1, 0, 0], [0, 0, 0], [0, 1, 1]],
        [[0, 1, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 1, 1], [0, 0, 0]],
    ]


def test_nothing_predicted_and_nothing_there_are_zero() -> None:
    assert f1(np.zeros(3)) == precision(np.zeros(3)) == recall(np.zeros(3)) == macro_f1(np.zeros((3, 3))) == 0
    assert float(precision(np.array([0, 0, 4]))) == 0 and float(recall(np.array([0, 4, 0]))) == 0
