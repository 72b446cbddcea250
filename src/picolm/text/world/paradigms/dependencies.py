"""Gaps and their fillers, polarity and its licensors, auxiliaries before and behind their subjects."""

from __future__ import annotations

from picolm.text.world import lexicon
from picolm.text.world.clauses import ALREADY, EVER, NOT, THAT, WHAT, WHERE
from picolm.text.world.lexicon import Noun, Verb
from picolm.text.world.paradigms.material import Material
from picolm.text.world.paradigms.paradigm import Contrast, Twins, twins
from picolm.text.world.phrases import Phrase, pronoun, verb_form
from picolm.text.world.words import Words, sentence

_HANDLE = lexicon.only("handle")


def question_gap(material: Material) -> Twins:
    """As in `What does the dog need?` against `Does the dog need the box?`."""
    who, verb, thing = _transitive(material)
    asked = (*who.do(False), *who.words, *verb_form(verb.base))
    return twins(
        lambda object: sentence(WHAT, asked, object, end="?"),
        lambda object: sentence(asked, object, end="?"),
        (),
        thing,
    )


def embedded_gap(material: Material) -> Twins:
    """As in `Anna knows what the dog needs.` against `Anna knows that the dog needs the box.`."""
    who, verb, thing = _transitive(material)
    opening, clause = _knows(material), (*who.words, *who.form(verb, False))
    return twins(
        lambda object: sentence(opening, WHAT, clause, object),
        lambda object: sentence(opening, THAT, clause, object),
        (),
        thing,
    )


def what_or_that(material: Material) -> Twins:
    """As in `Anna knows what the dog needs.` against `Anna knows that the dog needs.`."""
    who, verb, thing = _transitive(material)
    opening, clause = _knows(material), (*who.words, *who.form(verb, False))
    return twins(
        lambda word: sentence(opening, word, clause),
        lambda word: sentence(opening, word, clause, thing),
        WHAT,
        THAT,
    )


def ever_or_already(material: Material) -> Twins:
    """As in `No dog has ever slept.` against `The dog has already slept.`."""
    noun, plural = material.apart_from("have", "animal", "person"), material.draw.chance(0.4)
    no, the = material.the(noun, plural, "no"), material.the(noun, plural)
    verb, object = material.doing()
    slept = (*verb_form(verb.participle), *object)
    opening: Words = (*no.words, *no.have(False))
    if material.draw.chance(0.4):
        opening = (*the.words, *the.have(False), *NOT)
    return twins(
        lambda adverb: sentence(opening, adverb, slept),
        lambda adverb: sentence(the.words, the.have(False), adverb, slept),
        EVER,
        ALREADY,
    )


def no_scope(material: Material) -> Twins:
    """As in `No dog near the box has ever slept.` against `The dog near no box has already slept.`."""
    noun, plural = material.apart_from("have", "animal", "person"), material.draw.chance(0.4)
    inner, inner_plural = material.other_noun("place", "thing"), material.draw.chance(0.4)
    between = material.speaker.preposition()
    slept = verb_form(material.draw.zipf(lexicon.VERBS["act"]).participle)

    def frame(order: tuple[str, str], adverb: Words) -> Words:
        about = material.the(noun, plural, order[0])
        place = material.the(inner, inner_plural, order[1]).words
        return sentence(about.words, between, place, about.have(False), adverb, slept)

    return twins(lambda order: frame(order, EVER), lambda order: frame(order, ALREADY), ("no", "the"), ("the", "no"))


def relative_scope(material: Material) -> Twins:
    """As in `The dog that the girls have seen has not ever slept.`."""
    noun, other = material.noun("animal", "person"), material.other_noun("animal", "person")
    about, by = (material.the(some, material.draw.chance(0.4)) for some in (noun, other))
    seen = verb_form(material.draw.zipf(lexicon.VERBS["meet"]).participle)
    slept = verb_form(material.draw.zipf(lexicon.VERBS["act"]).participle)

    def frame(nots: tuple[Words, Words], adverb: Words) -> Words:
        relative = about.then(pronoun("that"), by.words, by.have(False), nots[0], seen)
        return sentence(relative.words, about.have(False), nots[1], adverb, slept)

    return twins(lambda nots: frame(nots, EVER), lambda nots: frame(nots, ALREADY), ((), NOT), (NOT, ()))


def any_scope(material: Material) -> Twins:
    """As in `No dog needs any box.` against `Any dog needs no box.`."""

    def contrast(plural: bool) -> Contrast:
        noun, (verb,) = material.apart(("animal", "person"), _HANDLE)
        thing = material.other_noun("thing")

        def frame(order: tuple[str, str]) -> Words:
            about = material.the(noun, material_plural, order[0])
            return sentence(about.words, about.form(verb, False), material.the(thing, plural, order[1]).words)

        material_plural = material.draw.chance(0.4)
        return Contrast(frame(("no", "any")), frame(("any", "no")))

    return contrast(False), contrast(True)


def where_be(material: Material) -> Twins:
    """As in `Where is the dog?` against `Anna knows where the dog is.`."""
    noun, plural = material.noun("animal", "person", "thing"), material.draw.chance(0.4)
    about = material.speaker.phrase(noun, plural=plural, determiner="the", adjective=0.5)
    opening = _knows(material)
    return twins(
        lambda order: sentence(WHERE, *order, end="?"),
        lambda order: sentence(opening, WHERE, *order),
        (about.be(False), about.words),
        (about.words, about.be(False)),
    )


def what_do(material: Material) -> Twins:
    """As in `What does the dog need?` against `What the dog does need?`."""

    def contrast(plural: bool) -> Contrast:
        about = material.the(material.noun("animal", "person"), plural)
        need = verb_form(material.draw.one_of(_HANDLE).base)
        good = sentence(WHAT, about.do(False), about.words, need, end="?")
        return Contrast(good, sentence(WHAT, about.words, about.do(False), need, end="?"))

    return contrast(False), contrast(True)


def yes_no(material: Material) -> Twins:
    """As in `Anna knows that the dog is hungry.` against `Is the dog hungry?`."""
    about = material.the(material.noun("animal", "person", "thing"), material.draw.chance(0.4))
    hungry, opening = material.speaker.adjective(about.kind), (*_knows(material), *THAT)
    return twins(
        lambda order: sentence(opening, *order, hungry),
        lambda order: sentence(*order, hungry, end="?"),
        (about.words, about.be(False)),
        (about.be(False), about.words),
    )


def _knows(material: Material) -> Words:
    who = material.person()
    return (*who.words, *who.form(material.draw.zipf(lexicon.VERBS["know"]), False))


def _transitive(material: Material) -> tuple[Phrase, Verb, Words]:
    noun: Noun
    noun, (verb,) = material.apart(("animal", "person"), _HANDLE)
    thing = material.the(material.other_noun("thing"), material.draw.chance(0.4)).words
    if material.draw.chance(0.5):
        thing = pronoun(material.draw.one_of(("it", "them")))
    return material.the(noun, material.draw.chance(0.4)), verb, thing
