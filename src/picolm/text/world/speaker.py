"""Who speaks in a document: draws its phrases and predicates, about one topic, in one tense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import TypeVar

from picolm.text.world import lexicon
from picolm.text.world.draw import Draw
from picolm.text.world.holdout import is_admissible
from picolm.text.world.lexicon import Gender, Kind, Noun, Verb, VerbClass
from picolm.text.world.phrases import (
    Person,
    Phrase,
    adjective,
    adverb,
    auxiliary,
    pronoun,
    verb_form,
    with_article,
)
from picolm.text.world.phrases import determiner as as_determiner
from picolm.text.world.words import Word, Words, words

_Item = TypeVar("_Item")

# How often a noun comes from the document's topic.
TOPIC_SHARE = 0.8

# Which verbs go with which objects.
ACTIONS: tuple[tuple[VerbClass, Kind], ...] = (
    ("handle", "thing"),
    ("meet", "animal"),
    ("meet", "person"),
    ("eat", "food"),
)
_VERBS_FOR: dict[Kind, VerbClass] = {"person": "meet", "animal": "meet", "food": "eat"}

_NOT = words("not/PART")
_DEFINITE, _PLURAL_DEFINITE = ("the", "the", "the", "this", "that"), ("the", "the", "these", "those")

_ANIMATE = {
    "act": 28,
    "action": 32,
    "adjective": 10,
    "progressive": 8,
    "perfect": 8,
    "negated": 7,
    "can": 5,
    "place": 4,
}
_INANIMATE = {"happen": 40, "adjective": 24, "place": 20, "perfect": 8, "negated": 4, "progressive": 4}


@cache
def _cumulative(*weights: float) -> tuple[float, ...]:
    return tuple(accumulate(weights))


class Speaker:
    """Builds the phrases of one document.

    Args:
        draw: where every choice comes from.
        topic: of most nouns.
        past: the tense of finite verbs.
        maturity: 0 to 1: how much of the vocabulary and of longer phrases a child of some age is spoken to with.
    """

    def __init__(self, draw: Draw, topic: str, *, past: bool = False, maturity: float = 1.0) -> None:
        self.draw = draw
        self.topic = topic
        self.past = past
        self.maturity = maturity

    def attempt(self, build: Callable[[Speaker], Words]) -> Words:
        """Build until nothing that is held out stands side by side."""
        while not is_admissible(built := build(self)):
            pass
        return built

    def choose(self, weights: dict[str, int]) -> str:
        """Choose a key by its weight."""
        return self.draw.weighted(tuple(weights), _cumulative(*weights.values()))

    def noun(self, *kinds: Kind) -> Noun:
        """Choose a noun of one of these kinds, most often from the topic."""
        topic = self.topic if self.draw.chance(TOPIC_SHARE) else self.draw.one_of(lexicon.TOPICS)
        return self.draw.zipf(self._known(lexicon.NOUNS[topic][self.draw.one_of(kinds)]))

    def verb(self, name: VerbClass) -> Verb:
        """Choose a verb of a class."""
        return self.draw.zipf(self._known(lexicon.VERBS[name]))

    def verb_for(self, kind: Kind) -> Verb:
        """Choose a verb whose object can be of this kind."""
        return self.verb(_VERBS_FOR.get(kind, "handle"))

    def adjective(self, kind: Kind) -> Words:
        """Choose an adjective that suits the kind."""
        classes = {"person": "mind", "animal": self.draw.one_of(("look", "mind")), "food": "taste"}
        return adjective(self.draw.zipf(self._known(lexicon.ADJECTIVES[classes.get(kind, "look")])))

    def attribute(self, kind: Kind) -> Words:
        """Choose an adjective that may stand before its noun."""
        chosen = self.adjective(kind)
        return adjective("frightened") if chosen[0].text == "afraid" else chosen

    def phrase(
        self, noun: Noun, *, plural: bool = False, determiner: str = "definite", adjective: float = 0.2
    ) -> Phrase:
        """Build determiner, adjective (with this probability) and noun.

        Args:
            noun: the head.
            plural: its number.
            determiner: `definite`, `indefinite`, or a word that stands as a determiner: `the`, `no`, `every`, ...
            adjective: how often there is one; less often where a small child is spoken to.
        """
        kernel: Words = (Word(noun.plural if plural else noun.singular, "NOUN"),)
        if self.draw.chance(adjective * self.maturity):
            kernel = (*self.attribute(noun.kind), *kernel)
        gender = noun.gender or ("she" if self.draw.chance(0.5) else "he")
        return Phrase(self._determine(kernel, plural, determiner), plural, gender, noun.kind)

    def something(self, *kinds: Kind, definite: float = 0.6, plural: float = 0.35, adjective: float = 0.2) -> Phrase:
        """Build any phrase of these kinds, definite and plural with these probabilities."""
        determiner = "definite" if self.draw.chance(definite) else "indefinite"
        return self.phrase(
            self.noun(*kinds), plural=self.draw.chance(plural), determiner=determiner, adjective=adjective
        )

    def speaking(self, *persons: Person) -> Phrase:
        """Build a pronoun: `I`, `we` or `you`; of the third person only what can act."""
        person = self.draw.one_of(persons)
        plural = person != 2 and self.draw.chance(0.3)
        gender: Gender = self.draw.one_of(("she", "he", "it"))
        return Phrase((), plural, gender, "person", person).as_pronoun()

    def _determine(self, kernel: Words, plural: bool, determiner: str) -> Words:
        if determiner == "definite":
            return (*as_determiner(self.draw.one_of(_PLURAL_DEFINITE if plural else _DEFINITE)), *kernel)
        if determiner != "indefinite":
            return (*as_determiner(determiner), *kernel)
        if not plural:
            return with_article(kernel)
        pick = self.draw.uniform()
        if pick < 0.4:
            return (*as_determiner("some"), *kernel)
        if pick < 0.65:
            return (*as_determiner("many"), *kernel)
        return (*as_determiner(self.draw.zipf(lexicon.NUMBERS)), *kernel)

    def place(self) -> Words:
        """Build a phrase that says where."""
        return (*self.preposition(), *self.phrase(self.noun("place"), adjective=0.1).words)

    def preposition(self) -> Words:
        """Choose a preposition."""
        return words(f"{self.draw.zipf(lexicon.PREPOSITIONS)}/ADP")

    def with_attractor(self, head: Phrase) -> Phrase:
        """Add a prepositional phrase whose noun often has the other number: the verb agrees with the head."""
        plural = head.plural != self.draw.chance(0.6)
        inner = self.phrase(self.noun("place", "thing", "animal"), plural=plural, adjective=0.05)
        return head.then(self.preposition(), inner.words)

    def with_relative(self, head: Phrase) -> Phrase:
        """Add a relative clause in which the head is the subject, or the object of someone else."""
        relative = pronoun("who" if head.kind == "person" and self.draw.chance(0.5) else "that")
        pick = self.draw.uniform()
        if pick < 0.2:
            return head.then(relative, self.predicate(head))
        if pick < 0.65 and head.kind in ("person", "animal"):
            verb, rest = self.action()
            return head.then(relative, head.form(verb, self.past), rest)
        plural = head.plural != self.draw.chance(0.6)
        other = self.phrase(self.noun("person", "animal"), plural=plural, determiner="the", adjective=0.05)
        return head.then(pronoun("that"), other.words, other.form(self.verb_for(head.kind), self.past))

    def predicate(self, subject: Phrase) -> Words:
        """Build a verb phrase that agrees with the subject."""
        choice = self.choose(_ANIMATE if subject.kind in ("person", "animal") else _INANIMATE)
        if choice in ("act", "happen"):
            verb = self.verb("act" if choice == "act" else "happen")
            return self._with_manner(subject.form(verb, self.past))
        if choice == "action":
            verb, rest = self.action()
            return (*subject.form(verb, self.past), *rest)
        if choice == "adjective":
            return (*subject.be(self.past), *self.adjective(subject.kind))
        if choice == "place":
            return (*subject.be(self.past), *self.place())
        verb, rest = self.doing(subject)
        if choice == "progressive":
            return (*subject.be(self.past), *verb_form(verb.ing), *rest)
        if choice == "perfect":
            return (*subject.have(self.past), *verb_form(verb.participle), *rest)
        if choice == "can":
            return (*auxiliary("could" if self.past else "can"), *verb_form(verb.base), *rest)
        return (*subject.do(self.past), *_NOT, *verb_form(verb.base), *rest)

    def doing(self, subject: Phrase) -> tuple[Verb, Words]:
        """Choose a verb that suits the subject, with its object if it takes one."""
        if subject.kind not in ("person", "animal"):
            return self.verb("happen"), ()
        return (self.verb("act"), ()) if self.draw.chance(0.45) else self.action()

    def action(self) -> tuple[Verb, Words]:
        """Choose a verb with its object."""
        verbs, kind = self.draw.one_of(ACTIONS)
        return self.verb(verbs), self.something(kind).words

    def _with_manner(self, form: Words) -> Words:
        if self.draw.chance(0.2 * self.maturity):
            form = (*form, *adverb(self.draw.zipf(lexicon.ADVERBS)))
        return (*form, *self.place()) if self.draw.chance(0.25 * self.maturity) else form

    def _known(self, items: Sequence[_Item]) -> Sequence[_Item]:
        return items if self.maturity >= 1.0 else items[: max(3, round(len(items) * (0.3 + 0.7 * self.maturity)))]
