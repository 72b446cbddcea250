"""Names found by rules that know nothing, and what marks them: what a test set gives away.

Tagalog and Cebuano put a particle before a person's name (si, ni, kay), and both write names with a capital letter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from picolm.evaluation.entities.iob2 import OUTSIDE, Sentence
from picolm.evaluation.entities.spans import Entity, entities

PERSON = "PER"
PARTICLES = ("si", "ni", "kay")
"""Those before persons' names in Tagalog and Cebuano; in Cebuano `kay` means `because` too."""


def is_after(words: Sequence[str], place: int, particles: Collection[str]) -> bool:
    """Whether the word before a place is one of some particles, written large or small."""
    return place > 0 and words[place - 1].lower() in particles


def after_particle(words: Sequence[str], particles: Collection[str] = PARTICLES) -> list[str]:
    """The tags of a rule: a word with a capital letter right behind a particle is a person, by itself."""
    return [
        f"B-{PERSON}" if is_capitalised(word) and is_after(words, place, particles) else OUTSIDE
        for place, word in enumerate(words)
    ]


def capitalised(words: Sequence[str]) -> list[str]:
    """The tags of a rule: words with a capital letter, the first one of the sentence aside, are persons.

    Such words side by side are one name.
    """
    tags: list[str] = []
    for place, word in enumerate(words):
        goes_on = bool(tags) and tags[-1] != OUTSIDE
        is_name = place > 0 and is_capitalised(word)
        tags.append(f"{'I' if goes_on else 'B'}-{PERSON}" if is_name else OUTSIDE)
    return tags


def is_capitalised(word: str) -> bool:
    """Whether a word begins with a capital letter."""
    return word[:1].isupper()


class Tally(NamedTuple):
    """How many of how many."""

    hits: int
    n: int


def anchored_persons(sentences: Iterable[Sentence], particles: Collection[str]) -> Tally:
    """Of all persons' names, those right behind a particle: an estimate of P(particle before | name)."""
    found = [is_after(sentence.words, name.start, particles) for sentence in sentences for name in persons(sentence)]
    return Tally(sum(found), len(found))


def named_by_particles(sentences: Iterable[Sentence], particles: Collection[str]) -> Tally:
    """Of all words right behind a particle, those with which a person's name begins: P(name | particle before)."""
    hits = n = 0
    for sentence in sentences:
        starts = {name.start for name in persons(sentence)}
        behind = [place for place in range(len(sentence.words)) if is_after(sentence.words, place, particles)]
        hits += len(starts.intersection(behind))
        n += len(behind)
    return Tally(hits, n)


def persons(sentence: Sentence) -> list[Entity]:
    """The persons' names of a sentence."""
    return [entity for entity in entities(sentence.tags) if entity.kind == PERSON]


def recall_by_anchor(
    sentences: Sequence[Sentence], predicted: Sequence[Sequence[str]], particles: Collection[str]
) -> tuple[Tally, Tally]:
    """How many persons' names were found, of those right behind a particle and of the others.

    Args:
        sentences: with right tags.
        predicted: tags of each sentence.
        particles: written small.
    """
    found: dict[bool, list[bool]] = {True: [], False: []}
    for sentence, tags in zip(sentences, predicted, strict=True):
        said = set(entities(tags))
        for name in persons(sentence):
            found[is_after(sentence.words, name.start, particles)].append(name in said)
    anchored, others = (Tally(sum(found[side]), len(found[side])) for side in (True, False))
    return anchored, others
