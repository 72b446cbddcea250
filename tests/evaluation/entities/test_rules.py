from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from picolm.evaluation.entities.iob2 import Sentence, read_sentences
from picolm.evaluation.entities.rules import (
    PARTICLES,
    Tally,
    after_particle,
    anchored_persons,
    capitalised,
    named_by_particles,
    recall_by_anchor,
)
from picolm.evaluation.entities.scores import counts, f1

SETS = {"ceb": "UNER_Cebuano-GJA/ceb_gja-ud-test.iob2", "tl": "UNER_Tagalog-TRG/tl_trg-ud-test.iob2"}


def listed(words: str) -> list[str]:
    return words.split()


def sentence(words: str, tags: str) -> Sentence:
    return Sentence(tuple(words.split()), tuple(tags.split()), None, "somewhere")


def philippine(shared_data: Path, language: str) -> list[Sentence]:
    return read_sentences(shared_data / "uner" / SETS[language])


def test_a_capital_letter_right_behind_a_particle_is_a_person() -> None:
    words = listed("Si Juan Cruz ay nakita ni maria at kay Ana ; si . Ni Pedro")
    assert after_particle(words) == listed("O B-PER O O O O O O O B-PER O O O O B-PER")
    assert after_particle(words, ("ay",)) == ["O"] * len(words)
    assert after_particle(["Juan"]) == ["O"], "nothing is before it"


def test_words_with_capital_letters_side_by_side_are_one_person() -> None:
    words = listed("Si Juan Cruz at Ana B 2 Éva 猫")
    assert capitalised(words) == listed("O B-PER I-PER O B-PER I-PER O B-PER O")
    assert capitalised(["Ana"]) == ["O"], "the first word of a sentence always has one"


@pytest.mark.parametrize(
    ("language", "rule", "expected"),
    [
        ("ceb", after_particle, 0.831),
        ("tl", after_particle, 0.850),
        ("ceb", capitalised, 0.785),
        ("tl", capitalised, 0.826),
    ],
)
def test_the_rules_find_most_names_of_the_philippine_sets(
    shared_data: Path, language: str, rule: Callable[[Sequence[str]], list[str]], expected: float
) -> None:
    read = philippine(shared_data, language)
    found = counts([one.tags for one in read], [rule(one.words) for one in read])
    assert round(float(f1(found.sum(axis=(0, 1)))), 3) == expected


@pytest.mark.parametrize(
    ("language", "particles", "anchored"),
    [
        ("ceb", ("si", "ni"), Tally(37, 42)),
        ("tl", ("si", "ni"), Tally(15, 19)),
        ("ceb", ("si", "ni", "ang", "ng", "sa"), Tally(37, 42)),
        ("tl", ("si", "ni", "ang", "ng", "sa"), Tally(17, 19)),
        ("tl", ("si", "ni", "ang", "ng", "sa", "kay"), Tally(19, 19)),
    ],
)
def test_how_many_names_stand_behind_a_particle(
    shared_data: Path, language: str, particles: tuple[str, ...], anchored: Tally
) -> None:
    assert anchored_persons(philippine(shared_data, language), particles) == anchored


@pytest.mark.parametrize(("language", "named"), [("ceb", Tally(37, 40)), ("tl", Tally(15, 15))])
def test_how_many_words_behind_a_particle_are_names(shared_data: Path, language: str, named: Tally) -> None:
    assert named_by_particles(philippine(shared_data, language), ("si", "ni")) == named


@pytest.mark.parametrize(("language", "share"), [("tl", 22.9), ("ceb", 11.4)])
def test_words_of_any_kind_behind_a_particle_are_another_statistic(
    shared_data: Path, language: str, share: float
) -> None:
    """What was published as the share of names (11.3 and 5.8 %) has all words below the line; it is near to this."""
    read = philippine(shared_data, language)
    behind = named_by_particles(read, ("si", "ni", "ang", "ng", "sa")).n
    assert round(100 * behind / sum(len(one.words) for one in read), 1) == share


def test_statistics_of_anchors_count_names_and_not_words() -> None:
    read = [
        sentence("Si Juan Cruz at si Ana ang nasa Cebu", "O B-PER I-PER O O B-PER O O B-LOC"),
        sentence("Ana ni si bata", "B-PER O O O"),
        sentence("Pedro si", "B-PER O"),
        sentence("sa ni Cebu", "O O B-LOC"),
    ]
    assert anchored_persons(read, PARTICLES) == Tally(2, 4), "Juan Cruz and Ana; but not Ana and Pedro that begin"
    assert named_by_particles(read, PARTICLES) == Tally(2, 5), "`si` behind `ni` and `bata` are none, nor is Cebu"


def test_recall_is_told_apart_by_what_stands_before() -> None:
    read = [
        sentence("si Juan Cruz si Ana Eva Cebu", "O B-PER I-PER O B-PER B-PER B-LOC"),
        sentence("Eva ni Pedro", "B-PER O B-PER"),
    ]
    predicted = [listed("O B-PER I-PER O B-PER O B-LOC"), listed("B-PER O B-LOC")]
    # Behind a particle: Juan Cruz, Ana and Pedro, who is taken for a place. The others: Eva, twice.
    assert recall_by_anchor(read, predicted, PARTICLES) == (Tally(2, 3), Tally(1, 2))
    half = [listed("O B-PER O O O O O"), ["O"] * 3]
    assert recall_by_anchor(read, half, PARTICLES) == (Tally(0, 3), Tally(0, 2)), "half a name is none"
