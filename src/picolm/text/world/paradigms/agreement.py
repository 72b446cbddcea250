"""Agreement: of verbs with their subjects, of determiners with their nouns, of reflexives with what they refer to."""

from __future__ import annotations

from picolm.text.world import lexicon
from picolm.text.world.lexicon import Gender, Kind, Verb
from picolm.text.world.paradigms.material import Material, people_by_band
from picolm.text.world.paradigms.paradigm import Twins, twins
from picolm.text.world.phrases import Phrase, adjective, auxiliary, name, pronoun, verb_form
from picolm.text.world.phrases import determiner as as_determiner
from picolm.text.world.words import Word, Words, sentence, words

_ACT, _HAPPEN = lexicon.only("act"), lexicon.only("happen")


def be(material: Material) -> Twins:
    """As in `The dog is hungry.`."""
    noun = material.apart_from("be", "animal", "person", "thing")
    rest = material.speaker.adjective(noun.kind)
    one, many = material.the(noun), material.the(noun, True)
    return twins(
        lambda form: sentence(one.words, form, rest),
        lambda form: sentence(many.words, form, rest),
        one.be(False),
        many.be(False),
    )


def have(material: Material) -> Twins:
    """As in `The dog has slept.`."""
    noun = material.apart_from("have", "animal", "person")
    verb, object = material.doing()
    rest = (*verb_form(verb.participle), *object)
    one, many = material.the(noun), material.the(noun, True)
    return twins(
        lambda form: sentence(one.words, form, rest),
        lambda form: sentence(many.words, form, rest),
        one.have(False),
        many.have(False),
    )


def do(material: Material) -> Twins:
    """As in `The dog does not sleep.`."""
    noun = material.apart_from("do", "animal", "person")
    verb, object = material.doing()
    rest = (*words("not/PART"), *verb_form(verb.base), *object)
    one, many = material.the(noun), material.the(noun, True)
    return twins(
        lambda form: sentence(one.words, form, rest),
        lambda form: sentence(many.words, form, rest),
        one.do(False),
        many.do(False),
    )


def lexical(material: Material) -> Twins:
    """As in `The dog sleeps.`."""
    one, many, verb = _subject(material)
    return _finite(one, many, verb)


def person(material: Material) -> Twins:
    """As in `I sleep in the barn.` against `She sleeps in the barn.`."""
    verb, where = material.verb("act"), material.speaker.place()
    first = material.draw.one_of(("I", "you", "we", "they"))
    third = material.draw.one_of(("she", "he", "it"))
    return twins(
        lambda form: sentence(pronoun(first), form, where),
        lambda form: sentence(pronoun(third), form, where),
        verb_form(verb.base),
        verb_form(verb.third),
    )


def person_be(material: Material) -> Twins:
    """As in `I am hungry.` against `You are hungry.`."""
    rest = adjective(material.draw.zipf(lexicon.ADJECTIVES["mind"]))
    rest = rest if material.draw.chance(0.3) else material.speaker.place()
    other = material.draw.one_of(("you", "we", "they"))
    return twins(
        lambda form: sentence(pronoun("I"), form, rest),
        lambda form: sentence(pronoun(other), form, rest),
        auxiliary("am"),
        auxiliary("are"),
    )


def across_phrase(material: Material) -> Twins:
    """As in `The dog near the boxes sleeps.`."""
    one, many, verb = _subject(material)
    return _finite(material.near(one), material.near(many), verb)


def be_across_phrase(material: Material) -> Twins:
    """As in `The dog near the boxes is hungry.`."""
    noun = material.apart_from("be", "animal", "person", "thing")
    rest = material.speaker.adjective(noun.kind)
    one, many = material.near(material.the(noun)), material.near(material.the(noun, True))
    return twins(
        lambda form: sentence(one.words, form, rest),
        lambda form: sentence(many.words, form, rest),
        one.be(False),
        many.be(False),
    )


def across_subject_relative(material: Material) -> Twins:
    """As in `The dog that sees the boxes sleeps.`."""
    noun, (verb,) = material.apart(("animal", "person"), _ACT)
    sees, seen = material.draw.zipf(lexicon.VERBS["handle"]), material.other_noun("thing")

    def head(plural: bool) -> Phrase:
        bare = material.the(noun, plural)
        return bare.then(pronoun("that"), bare.form(sees, False), material.the(seen, not plural).words)

    return _finite(head(False), head(True), verb)


def across_object_relative(material: Material) -> Twins:
    """As in `The dog that the girls see sleeps.`."""
    noun, (verb,) = material.apart(("animal", "person"), _ACT)
    sees, other = material.draw.zipf(lexicon.VERBS["meet"]), material.other_noun("person", "animal")

    def head(plural: bool) -> Phrase:
        by = material.the(other, not plural)
        return material.the(noun, plural).then(pronoun("that"), by.words, by.form(sees, False))

    return _finite(head(False), head(True), verb)


def in_question(material: Material) -> Twins:
    """As in `Is the dog hungry?`."""
    noun = material.noun("animal", "person", "thing")
    one, many = material.the(noun), material.the(noun, True)
    is_be = material.draw.chance(0.5) or noun.kind == "thing"
    verb = verb_form(material.draw.zipf(lexicon.VERBS["act"]).base)
    rest = material.speaker.adjective(noun.kind) if is_be else verb
    return twins(
        lambda form: sentence(form, one.words, rest, end="?"),
        lambda form: sentence(form, many.words, rest, end="?"),
        one.be(False) if is_be else one.do(False),
        many.be(False) if is_be else many.do(False),
    )


def demonstrative(material: Material) -> Twins:
    """As in `Anna sees this dog.` against `... these dogs.`."""
    return _demonstrative(material, ())


def demonstrative_adjective(material: Material) -> Twins:
    """As in `Anna sees this little dog.`."""
    return _demonstrative(material, adjective(material.draw.zipf(lexicon.ADJECTIVES["look"])))


def demonstrative_noun(material: Material) -> Twins:
    """As in `Anna sees this dog.` against `Anna sees this dogs.`."""
    noun = material.noun("animal", "person", "thing")
    opening = _sees(material)
    one, many = as_determiner(material.draw.one_of(("this", "that"))), as_determiner(_these(material))
    return twins(
        lambda word: sentence(opening, one, word),
        lambda word: sentence(opening, many, word),
        (Word(noun.singular, "NOUN"),),
        (Word(noun.plural, "NOUN"),),
    )


def reflexive_gender(material: Material) -> Twins:
    """As in `Anna sees herself.` against `Tom sees himself.`."""
    if material.draw.chance(0.5):
        place = material.draw.below(6) + 6 * ("frequent", "middle", "rare").index(material.band)
        she, he = name(lexicon.GIRLS[place], "she"), name(lexicon.BOYS[place], "he")
    else:
        she, he = _gendered(material, "she"), _gendered(material, "he")
    verb, past = material.draw.zipf(lexicon.VERBS["groom"]), material.draw.chance(0.5)
    return twins(
        lambda self: sentence(she.words, she.form(verb, past), self),
        lambda self: sentence(he.words, he.form(verb, past), self),
        she.reflexive,
        he.reflexive,
    )


def reflexive_number(material: Material) -> Twins:
    """As in `The girls see themselves.` against `The girl sees herself.`."""
    many, one = _of_known_gender(material)
    return _reflexive(material, many, one, past=material.draw.chance(0.5))


def reflexive_across_phrase(material: Material) -> Twins:
    """As in `The girls near the boy saw themselves.`; in the past, where the verb does not tell the number."""
    many, one = _of_known_gender(material)
    kinds: tuple[Kind, ...] = ("animal", "person")
    return _reflexive(material, material.near(many, *kinds), material.near(one, *kinds), past=True)


def _subject(material: Material) -> tuple[Phrase, Phrase, Verb]:
    kinds, verbs = material.draw.one_of(
        ((("animal", "person"), _ACT), (("animal", "person"), _ACT), (("thing",), _HAPPEN))
    )
    noun, (verb,) = material.apart(kinds, verbs)  # type: ignore[arg-type]
    return material.the(noun), material.the(noun, True), verb


def _finite(one: Phrase, many: Phrase, verb: Verb) -> Twins:
    return twins(
        lambda form: sentence(one.words, form),
        lambda form: sentence(many.words, form),
        one.form(verb, False),
        many.form(verb, False),
    )


def _these(material: Material) -> str:
    return material.draw.one_of(("these", "those"))


def _sees(material: Material) -> Words:
    who = material.person()
    return (*who.words, *who.form(material.draw.zipf(lexicon.VERBS["meet"]), material.draw.chance(0.5)))


def _demonstrative(material: Material, between: Words) -> Twins:
    noun = material.noun("animal", "person", "thing")
    opening = _sees(material)
    return twins(
        lambda word: sentence(opening, word, between, (Word(noun.singular, "NOUN"),)),
        lambda word: sentence(opening, word, between, (Word(noun.plural, "NOUN"),)),
        as_determiner(material.draw.one_of(("this", "that"))),
        as_determiner(_these(material)),
    )


def _gendered(material: Material, gender: Gender) -> Phrase:
    return material.the(material.draw.one_of(people_by_band(gender)[material.band]))


def _of_known_gender(material: Material) -> tuple[Phrase, Phrase]:
    while (noun := material.noun("person", "animal")).gender is None:
        pass
    return material.the(noun, True), material.the(noun)


def _reflexive(material: Material, many: Phrase, one: Phrase, *, past: bool) -> Twins:
    verb = material.draw.zipf(lexicon.VERBS["groom"])
    return twins(
        lambda self: sentence(many.words, many.form(verb, past), self),
        lambda self: sentence(one.words, one.form(verb, past), self),
        many.reflexive,
        one.reflexive,
    )
