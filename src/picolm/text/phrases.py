"""Productions of the embedded grammar up to the clause: what agrees with what is decided here."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TypeVar

import numpy as np

from picolm.text import lexicon
from picolm.text.lexicon import Gender, Kind, Noun, Verb, with_article

_Item = TypeVar("_Item")

_BLOCK = 512
# How often a noun comes from the document's topic.
_TOPIC_SHARE = 0.8


@lru_cache
def _zipf(n: int) -> tuple[float, ...]:
    """Cumulative probabilities of ranks 1 to n by the law of Zipf and Mandelbrot: proportional to 1 / (rank + 1.5)."""
    weights = [1.0 / (rank + 1.5) for rank in range(1, n + 1)]
    total = sum(weights)
    return tuple(accumulate(weight / total for weight in weights))


class Draw:
    """Choices from one generator, whose uniform numbers are drawn in blocks."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._numbers: list[float] = []

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        if not self._numbers:
            self._numbers = self._generator.random(_BLOCK).tolist()
        return self._numbers.pop()

    def chance(self, probability: float) -> bool:
        """Return whether something of this probability happens."""
        return self.uniform() < probability

    def one_of(self, items: Sequence[_Item]) -> _Item:
        """Choose, all being equally likely."""
        return items[int(self.uniform() * len(items))]

    def zipf(self, items: Sequence[_Item]) -> _Item:
        """Choose, the first being likeliest."""
        return items[min(bisect(_zipf(len(items)), self.uniform()), len(items) - 1)]


_OBJECTS = {"it": "it", "she": "her", "he": "him", "they": "them"}
_POSSESSIVES = {"it": "its", "she": "her", "he": "his", "they": "their"}
_REFLEXIVES = {"it": "itself", "she": "herself", "he": "himself", "they": "themselves"}


# Which verbs go with which objects.
_ACTIONS: tuple[tuple[str, Kind], ...] = (
    ("handle", "thing"),
    ("meet", "animal"),
    ("meet", "person"),
    ("eat", "food"),
)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase with all that something else can agree with.

    Attributes:
        text: as it stands in the middle of a sentence.
        plural: its grammatical number.
        gender: of the pronoun that refers to it while it is singular.
        kind: what it can do.
    """

    text: str
    plural: bool
    gender: Gender
    kind: Kind

    @property
    def pronoun(self) -> str:
        """The pronoun that refers back to it, as a subject."""
        return "they" if self.plural else self.gender

    @property
    def object(self) -> str:
        """The pronoun as an object."""
        return _OBJECTS[self.pronoun]

    @property
    def possessive(self) -> str:
        """The pronoun before a noun."""
        return _POSSESSIVES[self.pronoun]

    @property
    def reflexive(self) -> str:
        """The pronoun that refers to the subject of its own clause."""
        return _REFLEXIVES[self.pronoun]

    def as_pronoun(self) -> Phrase:
        """Return the pronoun as a phrase that agrees as this one does."""
        return Phrase(self.pronoun, self.plural, self.gender, self.kind)

    def be(self, past: bool) -> str:
        """Return the form of `be`."""
        return ("were" if self.plural else "was") if past else ("are" if self.plural else "is")

    def do(self, past: bool) -> str:
        """Return the form of the auxiliary `do`."""
        return "did" if past else ("do" if self.plural else "does")

    def form(self, verb: Verb, past: bool) -> str:
        """Return the form of a verb."""
        return verb.past if past else (verb.base if self.plural else verb.third)


class Speaker:
    """Builds the phrases of one document: about one topic, in one tense."""

    def __init__(self, draw: Draw, topic: str, past: bool) -> None:
        self.draw = draw
        self.topic = topic
        self.past = past

    def noun(self, *kinds: Kind) -> Noun:
        """Choose a noun of one of these kinds, most often from the topic."""
        topic = self.topic if self.draw.chance(_TOPIC_SHARE) else self.draw.one_of(lexicon.TOPICS)
        return self.draw.zipf(lexicon.NOUNS[topic][self.draw.one_of(kinds)])

    def adjective(self, kind: Kind) -> str:
        """Choose an adjective that suits the kind."""
        classes = {"person": "mind", "animal": self.draw.one_of(("look", "mind")), "food": "taste"}
        return self.draw.zipf(lexicon.ADJECTIVES[classes.get(kind, "look")])

    def phrase(self, noun: Noun, *, plural: bool = False, definite: bool = True, adjective: float = 0.25) -> Phrase:
        """Build determiner, adjective (with this probability) and noun."""
        words = noun.plural if plural else noun.singular
        if self.draw.chance(adjective):
            words = f"{self.attribute(noun.kind)} {words}"
        gender = noun.gender or ("she" if self.draw.chance(0.5) else "he")
        return Phrase(self._determine(words, plural, definite), plural, gender, noun.kind)

    def something(self, *kinds: Kind, definite: float = 0.6, plural: float = 0.3) -> Phrase:
        """Build any phrase of these kinds, definite and plural with these probabilities."""
        return self.phrase(self.noun(*kinds), plural=self.draw.chance(plural), definite=self.draw.chance(definite))

    def attribute(self, kind: Kind) -> str:
        """Choose an adjective that may stand before its noun."""
        adjective = self.adjective(kind)
        return "frightened" if adjective == "afraid" else adjective

    def _determine(self, words: str, plural: bool, definite: bool) -> str:
        if plural:
            pool = ("the", "the", "these", "those") if definite else ("some", "many", self.draw.zipf(lexicon.NUMBERS))
            return f"{self.draw.one_of(pool)} {words}"
        if definite:
            return f"{self.draw.one_of(('the', 'the', 'the', 'this', 'that'))} {words}"
        return with_article(words)

    def place(self) -> str:
        """Build a phrase that says where."""
        return f"{self.draw.zipf(lexicon.PREPOSITIONS)} {self.phrase(self.noun('place'), adjective=0.15).text}"

    def with_attractor(self, head: Phrase) -> Phrase:
        """Add a prepositional phrase whose noun often has the other number: the verb agrees with the head."""
        plural = head.plural != self.draw.chance(0.6)
        inner = self.phrase(self.noun("place", "thing"), plural=plural, adjective=0.1)
        text = f"{head.text} {self.draw.zipf(lexicon.PREPOSITIONS)} {inner.text}"
        return Phrase(text, head.plural, head.gender, head.kind)

    def with_relative(self, head: Phrase) -> Phrase:
        """Add a relative clause in which the head is the subject, or the object of someone else."""
        relative = "who" if head.kind == "person" and self.draw.chance(0.5) else "that"
        if self.draw.chance(0.6):
            clause = f"{relative} {self.predicate(head)}"
        else:
            other = self.something("person", "animal", definite=0.9)
            verbs = {"person": "meet", "animal": "meet", "food": "eat"}.get(head.kind, "handle")
            clause = f"that {other.text} {other.form(self.draw.zipf(lexicon.VERBS[verbs]), self.past)}"
        return Phrase(f"{head.text} {clause}", head.plural, head.gender, head.kind)

    def predicate(self, subject: Phrase) -> str:
        """Build a verb phrase that agrees with the subject."""
        if subject.kind not in ("person", "animal"):
            if self.draw.chance(0.5):
                return f"{subject.be(self.past)} {self.draw.one_of((self.place(), self.adjective(subject.kind)))}"
            return self._intransitive(subject, "happen")
        pick = self.draw.uniform()
        if pick < 0.3:
            return self._intransitive(subject, "act")
        if pick < 0.42:
            return f"{subject.be(self.past)} {self.adjective(subject.kind)}"
        verbs, kind = self.draw.one_of(_ACTIONS)
        verb = subject.form(self.draw.zipf(lexicon.VERBS[verbs]), self.past)
        return f"{verb} {self.something(kind).text}"

    def negated(self, subject: Phrase) -> str:
        """Build a verb phrase with `do not`."""
        verb = self.draw.zipf(lexicon.VERBS["handle"])
        return f"{subject.do(self.past)} not {verb.base} {self.something('thing').text}"

    def _intransitive(self, subject: Phrase, verbs: str) -> str:
        words = subject.form(self.draw.zipf(lexicon.VERBS[verbs]), self.past)
        if self.draw.chance(0.25):
            words = f"{words} {self.draw.zipf(lexicon.ADVERBS)}"
        return f"{words} {self.place()}" if self.draw.chance(0.35) else words


def sentence(words: str, end: str = ".") -> str:
    """Write words as a sentence."""
    return words[0].upper() + words[1:] + end
