"""What verbs ask for: objects, subjects that can act, clauses; and which of their forms stands where."""

from __future__ import annotations

from picolm.text.world import lexicon
from picolm.text.world.lexicon import Verb, VerbClass
from picolm.text.world.paradigms.material import Material
from picolm.text.world.paradigms.paradigm import Twins, twins
from picolm.text.world.phrases import Phrase, verb_form
from picolm.text.world.speaker import ACTIONS
from picolm.text.world.words import Words, sentence, words

_ACT, _HANDLE, _HAPPEN, _EAT, _SAY = (lexicon.only(name) for name in ("act", "handle", "happen", "eat", "say"))
_IRREGULAR = {
    name: tuple(verb for verb in verbs if len({verb.base, verb.past, verb.participle}) == 3)
    for name, verbs in lexicon.VERBS.items()
}


def object_or_none(material: Material) -> Twins:
    """As in `The dog needs the box.` against `The dog sleeps.`."""
    noun, (needs, sleeps) = material.apart(("animal", "person"), _HANDLE, _ACT)
    who, past = material.the(noun, material.draw.chance(0.4)), material.draw.chance(0.4)
    thing = material.the(material.other_noun("thing"), material.draw.chance(0.4)).words
    return twins(
        lambda form: sentence(who.words, form, thing),
        lambda form: sentence(who.words, form),
        who.form(needs, past),
        who.form(sleeps, past),
    )


def animate_subject(material: Material) -> Twins:
    """As in `The girl laughs.` against `The box rusts.`."""
    plural, past = material.draw.chance(0.4), material.draw.chance(0.4)
    girl, (laugh,) = material.apart(("animal", "person"), _ACT)
    box, (rust,) = material.apart(("thing",), _HAPPEN)
    acts, is_acted_on = material.the(girl, plural), material.the(box, plural)
    return twins(
        lambda subject: sentence(subject, acts.form(laugh, past)),
        lambda subject: sentence(subject, acts.form(rust, past)),
        acts.words,
        is_acted_on.words,
    )


def object_kind(material: Material) -> Twins:
    """As in `The girl devours the apple.` against `The girl mends the lamp.`."""
    noun, (eats, mends) = material.apart(("animal", "person"), _EAT, _HANDLE)
    who, past, plural = material.the(noun), material.draw.chance(0.4), material.draw.chance(0.4)
    return twins(
        lambda object: sentence(who.words, who.form(eats, past), object),
        lambda object: sentence(who.words, who.form(mends, past), object),
        material.the(material.other_noun("food"), plural).words,
        material.the(material.other_noun("thing"), plural).words,
    )


def clause_or_object(material: Material) -> Twins:
    """As in `The girl hopes that the dog sleeps.` against `The girl mends the lamp.`."""
    noun, (hopes, mends) = material.apart(("person",), _SAY, _HANDLE)
    who, past = material.the(noun, material.draw.chance(0.4)), material.draw.chance(0.4)
    about = material.the(material.other_noun("animal"), material.draw.chance(0.4))
    that = (*words("that/SCONJ"), *about.words, *about.form(material.draw.zipf(lexicon.VERBS["act"]), past))
    thing = material.the(material.other_noun("thing"), material.draw.chance(0.4)).words
    return twins(
        lambda form: sentence(who.words, form, that),
        lambda form: sentence(who.words, form, thing),
        who.form(hopes, past),
        who.form(mends, past),
    )


def past_or_participle(material: Material) -> Twins:
    """As in `The dog ate the apple.` against `The dog has eaten the apple.`."""
    who, verb, rest = _doing(material, _IRREGULAR)
    return twins(
        lambda form: sentence(who.words, form, rest),
        lambda form: sentence(who.words, who.have(False), form, rest),
        verb_form(verb.past),
        verb_form(verb.participle),
    )


def third_or_base(material: Material) -> Twins:
    """As in `The dog eats the apple.` against `The dog does not eat the apple.`."""
    who, verb, rest = _doing(material, lexicon.VERBS)
    return twins(
        lambda form: sentence(who.words, form, rest),
        lambda form: sentence(who.words, who.do(False), words("not/PART"), form, rest),
        verb_form(verb.third),
        verb_form(verb.base),
    )


def ing_or_base(material: Material) -> Twins:
    """As in `The dog is eating the apple.` against `The dog can eat the apple.`."""
    who, verb, rest = _doing(material, lexicon.VERBS)
    return twins(
        lambda form: sentence(who.words, who.be(False), form, rest),
        lambda form: sentence(who.words, words("can/AUX"), form, rest),
        verb_form(verb.ing),
        verb_form(verb.base),
    )


def _doing(material: Material, verbs: dict[VerbClass, tuple[Verb, ...]]) -> tuple[Phrase, Verb, Words]:
    who = material.the(material.noun("animal", "person"))
    if material.draw.chance(0.4):
        return who, material.draw.zipf(verbs["act"]), ()
    name, kind = material.draw.one_of(ACTIONS)
    return (
        who,
        material.draw.zipf(verbs[name]),
        material.the(material.other_noun(kind), material.draw.chance(0.4)).words,
    )
