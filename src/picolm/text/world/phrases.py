"""Noun phrases and verb forms: what agrees with what is decided here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from picolm.text.world.lexicon import NUMBERS, Gender, Kind, Verb
from picolm.text.world.words import Word, Words, words

Person = Literal[1, 2, 3]

_OBJECTS = {"I": "me", "we": "us", "you": "you", "it": "it", "she": "her", "he": "him", "they": "them"}
_POSSESSIVES = {"I": "my", "we": "our", "you": "your", "it": "its", "she": "her", "he": "his", "they": "their"}
_REFLEXIVES = {
    "I": "myself",
    "we": "ourselves",
    "you": "yourself",
    "it": "itself",
    "she": "herself",
    "he": "himself",
    "they": "themselves",
}


@cache
def pronoun(text: str) -> Words:
    """Return a pronoun as words."""
    return (Word(text, "PRON"),)


@cache
def auxiliary(text: str) -> Words:
    """Return a form of `be`, `have`, `do`, `can` as words."""
    return (Word(text, "AUX"),)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase with all that something else can agree with.

    Attributes:
        words: as they stand in the middle of a sentence.
        plural: its grammatical number.
        gender: of the pronoun that refers to it while it is singular.
        kind: what it can do.
        person: 1 for who speaks, 2 for who is spoken to.
    """

    words: Words
    plural: bool
    gender: Gender
    kind: Kind
    person: Person = 3

    @property
    def pronoun(self) -> str:
        """The pronoun that refers back to it, as a subject."""
        if self.person == 3:
            return "they" if self.plural else self.gender
        return "you" if self.person == 2 else "we" if self.plural else "I"

    @property
    def object(self) -> Words:
        """The pronoun as an object."""
        return pronoun(_OBJECTS[self.pronoun])

    @property
    def possessive(self) -> Words:
        """The pronoun before a noun."""
        return pronoun(_POSSESSIVES[self.pronoun])

    @property
    def reflexive(self) -> Words:
        """The pronoun that refers to the subject of its own clause."""
        return pronoun(_REFLEXIVES[self.pronoun])

    def as_pronoun(self) -> Phrase:
        """Return the pronoun as a phrase that agrees as this one does."""
        return replace(self, words=pronoun(self.pronoun))

    def then(self, *more: Words) -> Phrase:
        """Return the phrase with a modifier behind it; what it agrees with stays."""
        return replace(self, words=tuple(word for part in (self.words, *more) for word in part))

    @property
    def is_third_singular(self) -> bool:
        """Whether a verb in the present takes `-s`."""
        return self.person == 3 and not self.plural

    def be(self, past: bool) -> Words:
        """Return the form of `be`."""
        if self.plural or self.person == 2:
            return auxiliary("were" if past else "are")
        return auxiliary("was" if past else "am" if self.person == 1 else "is")

    def do(self, past: bool) -> Words:
        """Return the form of the auxiliary `do`."""
        return auxiliary("did" if past else "does" if self.is_third_singular else "do")

    def have(self, past: bool) -> Words:
        """Return the form of the auxiliary `have`."""
        return auxiliary("had" if past else "has" if self.is_third_singular else "have")

    def form(self, verb: Verb, past: bool) -> Words:
        """Return the finite form of a verb."""
        return verb_form(verb.past if past else verb.third if self.is_third_singular else verb.base)


@cache
def verb_form(text: str) -> Words:
    """Return any form of a main verb as words."""
    return (Word(text, "VERB"),)


@cache
def adjective(text: str) -> Words:
    """Return an adjective as words."""
    return (Word(text, "ADJ"),)


@cache
def adverb(text: str) -> Words:
    """Return an adverb as words."""
    return (Word(text, "ADV"),)


_NOT_DET = {"many": "ADJ", "much": "ADJ", "few": "ADJ", "most": "ADJ", **dict.fromkeys(("one", *NUMBERS), "NUM")}


@cache
def determiner(text: str) -> Words:
    """Return what stands before a noun, and before its adjective: an article, a quantifier, `one`."""
    return (Word(text, _NOT_DET.get(text, "DET")),)


def name(text: str, gender: Gender) -> Phrase:
    """Return a person's name as a phrase."""
    return Phrase((Word(text, "PROPN"),), False, gender, "person")


def with_article(phrase: Words) -> Words:
    """Put the right one of `a` and `an` before a phrase."""
    text = phrase[0].text
    is_vowel = text[0] in "aeiou" and not text.startswith("uni")
    return (*words("an/DET" if is_vowel else "a/DET"), *phrase)
