import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from picolm.evaluation.entities.iob2 import TAGS
from picolm.evaluation.entities.spans import Entity, entities, illegal_starts, repaired

TAG_LISTS = st.lists(st.sampled_from(TAGS), max_size=12)

ADVERSARIAL = [
    [],
    ["O"],
    ["I-PER"],
    ["I-PER", "I-PER"],
    ["O", "I-PER", "I-LOC", "I-PER"],
    ["B-PER", "I-LOC", "I-LOC"],
    ["B-PER", "B-PER", "I-PER"],
    ["B-PER", "I-LOC", "I-PER"],
    ["I-PER", "B-PER", "I-PER", "O", "I-PER"],
    ["B-LOC", "O", "I-LOC"],
]


@pytest.mark.parametrize("tags", ADVERSARIAL, ids=" ".join)
def test_the_readings_equal_seqevals_where_it_hurts(tags: list[str]) -> None:
    check(tags)


@given(TAG_LISTS)
def test_the_readings_equal_seqevals(tags: list[str]) -> None:
    check(tags)


def check(tags: list[str]) -> None:
    assert entities(tags) == [Entity(kind, start, last + 1) for kind, start, last in get_entities(tags)]
    (theirs,) = Entities([tags], IOB2).entities
    assert entities(tags, strict=True) == [Entity(one.tag, one.start, one.end) for one in theirs]


@given(TAG_LISTS)
def test_a_repair_changes_no_entity_and_leaves_nothing_illegal(tags: list[str]) -> None:
    assert entities(repaired(tags)) == entities(tags)
    assert illegal_starts(repaired(tags)) == 0
    assert entities(repaired(tags), strict=True) == entities(tags), "of legal tags both readings are one"
    assert sum(before != after for before, after in zip(tags, repaired(tags), strict=True)) == illegal_starts(tags)


def test_the_two_readings_differ() -> None:
    tags = ["O", "I-PER", "I-PER", "B-LOC", "I-ORG"]
    assert entities(tags) == [Entity("PER", 1, 3), Entity("LOC", 3, 4), Entity("ORG", 4, 5)]
    assert entities(tags, strict=True) == [Entity("LOC", 3, 4)]
