"""Quantifiers and the nouns they go with."""

from __future__ import annotations

from picolm.text.world import lexicon
from picolm.text.world.paradigms.material import Material
from picolm.text.world.paradigms.paradigm import Twins, twins
from picolm.text.world.phrases import determiner
from picolm.text.world.words import Word, Words, sentence

_ACT = lexicon.only("act")


def every_or_all(material: Material) -> Twins:
    """As in `Every dog sleeps.` against `All dogs sleep.`."""
    noun, (verb,) = material.apart(("animal", "person"), _ACT)
    one, many = material.the(noun), material.the(noun, True)
    where = material.speaker.place() if material.draw.chance(0.5) else ()
    return twins(
        lambda word: sentence(word, one.words[1:], one.form(verb, False), where),
        lambda word: sentence(word, many.words[1:], many.form(verb, False), where),
        determiner(material.draw.one_of(("every", "each"))),
        determiner("all"),
    )


def one_or_two(material: Material) -> Twins:
    """As in `One dog sleeps.` against `Two dogs sleep.`."""
    noun, (verb,) = material.apart(("animal", "person"), _ACT)
    one, many = material.the(noun), material.the(noun, True)
    where = material.speaker.place() if material.draw.chance(0.5) else ()
    return twins(
        lambda word: sentence(word, one.words[1:], one.form(verb, False), where),
        lambda word: sentence(word, many.words[1:], many.form(verb, False), where),
        determiner("one"),
        determiner(material.draw.zipf(lexicon.NUMBERS)),
    )


def much_or_many(material: Material) -> Twins:
    """As in `Anna needs much water.` against `Anna needs many boxes.`."""
    who, noun, stuff = material.person(), material.noun("thing"), material.draw.zipf(lexicon.STUFF)
    verbs = [verb for verb in lexicon.VERBS["handle"] if verb.base in ("see", "find", "want", "need", "carry", "bring")]
    opening: Words = (*who.words, *who.form(material.draw.one_of(verbs), material.draw.chance(0.4)))
    return twins(
        lambda word: sentence(opening, word, (Word(stuff.singular, "NOUN"),)),
        lambda word: sentence(opening, word, (Word(noun.plural, "NOUN"),)),
        determiner("much"),
        determiner("many"),
    )
