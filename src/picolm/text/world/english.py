"""The domains of the embedded English corpus: from child-directed to adult, and notes of a sentence or two.

Three documents in four are notes, in which any production may come first: a model so learns that a sentence may stand
alone behind the separator, as those of minimal pairs do. They are a fifth of the text.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import accumulate

from picolm.text.document import JSON, Document
from picolm.text.world import clauses, lexicon
from picolm.text.world.circumstances import draw_circumstances
from picolm.text.world.draw import Draw
from picolm.text.world.lexicon import Gender, Noun
from picolm.text.world.phrases import Phrase, auxiliary, determiner, name, pronoun, verb_form, with_article
from picolm.text.world.speaker import Speaker
from picolm.text.world.words import Page, Word, Words, sentence, words

Production = Callable[[Speaker], Words]
Metadata = dict[str, JSON]

# A child that a nursery speaks to is this old.
FIRST_MONTH, LAST_MONTH = 12, 72

# What a child hears, by the age in months from which on it is said to it, and how often.
_NURSERY: tuple[tuple[int, int, Production], ...] = (
    (12, 10, clauses.statement),
    (12, 5, clauses.where_question),
    (12, 5, clauses.yes_no_question),
    (15, 3, clauses.existential),
    (18, 5, clauses.object_question),
    (18, 3, clauses.quantified),
    (21, 3, clauses.subject_question),
    (21, 3, clauses.measured),
    (24, 4, clauses.reflexive),
    (24, 3, clauses.given),
    (30, 5, clauses.polar_object),
    (30, 4, clauses.attracted),
    (36, 4, clauses.embedded_question),
    (36, 4, clauses.joined),
    (36, 5, clauses.polar_perfect),
    (42, 4, clauses.related),
    (42, 3, clauses.polar_question),
    (48, 3, clauses.reported),
)
_ENCYCLOPEDIA: dict[Production, int] = {
    clauses.attracted: 18,
    clauses.related: 14,
    clauses.polar_perfect: 14,
    clauses.quantified: 12,
    clauses.polar_object: 7,
    clauses.measured: 6,
    clauses.reflexive: 6,
    clauses.embedded_question: 7,
    clauses.conceded: 6,
    clauses.existential: 5,
    clauses.reported: 4,
    clauses.joined: 4,
}
_STORY: dict[Production, int] = {
    clauses.statement: 8,
    clauses.told_twice: 8,
    clauses.reflexive: 8,
    clauses.reported: 8,
    clauses.embedded_question: 8,
    clauses.related: 7,
    clauses.attracted: 6,
    clauses.given: 6,
    clauses.joined: 6,
    clauses.polar_perfect: 6,
    clauses.polar_object: 4,
    clauses.quantified: 4,
    clauses.measured: 3,
}
_NOTES: dict[Production, int] = {
    clauses.statement: 12,
    clauses.related: 13,
    clauses.attracted: 7,
    clauses.reflexive: 12,
    clauses.object_question: 12,
    clauses.yes_no_question: 6,
    clauses.where_question: 3,
    clauses.subject_question: 2,
    clauses.embedded_question: 8,
    clauses.polar_perfect: 7,
    clauses.polar_object: 4,
    clauses.polar_question: 2,
    clauses.quantified: 8,
    clauses.measured: 4,
    clauses.reported: 4,
    clauses.given: 2,
    clauses.told_twice: 8,
}
_QUESTIONS: dict[Production, int] = {
    clauses.yes_no_question: 6,
    clauses.object_question: 8,
    clauses.where_question: 5,
    clauses.subject_question: 3,
    clauses.polar_question: 6,
}
_ANSWERS: dict[Production, int] = {
    clauses.statement: 8,
    clauses.embedded_question: 9,
    clauses.polar_perfect: 7,
    clauses.polar_object: 7,
    clauses.attracted: 6,
    clauses.reported: 5,
    clauses.quantified: 4,
    clauses.measured: 4,
    clauses.existential: 4,
    clauses.reflexive: 4,
    clauses.related: 4,
}


def document(seed: int, index: int) -> Document:
    """Generate one document, a pure function of its arguments."""
    domain = _ORDER[index % len(_ORDER)]
    draw = Draw.keyed(seed, "embedded:english", index)
    circumstances = draw_circumstances(draw, domain)
    page = Page()
    more = DOMAINS[domain](draw, circumstances.topic, page)
    metadata = {**circumstances.metadata(), **more}
    return Document(f"{domain}-{index}", page.text, domain, metadata, tuple(page.tags))


def _nursery(draw: Draw, topic: str, page: Page) -> Metadata:
    """Talk to a small child about what is in sight; more, longer and rarer as it grows."""
    age = FIRST_MONTH + draw.below(LAST_MONTH - FIRST_MONTH + 1)
    maturity = (age - FIRST_MONTH) / (LAST_MONTH - FIRST_MONTH)
    speaker = Speaker(draw, topic, maturity=maturity)
    productions, weights = _said_at(age)
    for _ in range(4 + draw.below(4 + round(4 * maturity))):
        page.write(speaker.attempt(_show), "\n")
        for _ in range(1 + draw.below(2 + round(2 * maturity))):
            page.write(speaker.attempt(draw.weighted(productions, weights)))
    return {"age_months": age, "speaker": draw.zipf(("mother", "father", "grandmother", "teacher", "grandfather"))}


@cache
def _said_at(age: int) -> tuple[tuple[Production, ...], tuple[int, ...]]:
    said = [(production, weight) for first, weight, production in _NURSERY if first <= age]
    return tuple(production for production, _ in said), tuple(accumulate(weight for _, weight in said))


def _show(speaker: Speaker) -> Words:
    """Name something, and say a word about it."""
    draw = speaker.draw
    noun, plural = speaker.noun("animal", "thing", "food", "person"), draw.chance(0.4)
    pick = draw.uniform()
    if pick < 0.4:
        return clauses.naming(noun, plural)
    if pick < 0.6:
        seen = speaker.phrase(noun, plural=plural, determiner="indefinite", adjective=0.1)
        return sentence(words("look/VERB ,/PUNCT"), seen.words, end="!")
    it = speaker.phrase(noun, plural=plural, determiner="the", adjective=0.0)
    again = it.as_pronoun()
    opening = sentence(auxiliary("do"), pronoun("you"), verb_form("see"), it.words, end="?")
    return (*opening, *sentence(again.words, speaker.predicate(again)))


def _story(draw: Draw, topic: str, page: Page) -> Metadata:
    """Tell what happened to two people, of different gender so that a pronoun says who."""
    speaker = Speaker(draw, topic, past=True)
    genders: tuple[Gender, Gender] = ("she", "he") if draw.chance(0.5) else ("he", "she")
    hero, friend = (_named(draw, gender) for gender in genders)
    page.write(_once_upon_a_time(hero))
    page.write(sentence(pronoun(hero.gender), verb_form("lived"), speaker.place()))
    for _ in range(1 + draw.below(3)):
        page.write(_begin(speaker, hero), "\n\n")
        for _ in range(3 + draw.below(4)):
            if draw.chance(0.45):
                page.write(speaker.attempt(lambda speaker: _event(speaker, hero, friend)))
            else:
                page.write(speaker.attempt(speaker.draw.weighted(tuple(_STORY), _weights("story"))))
    ending = (*hero.words, *words("and/CCONJ"), *friend.words, *words("were/AUX"), *speaker.adjective("person"))
    page.write(sentence(ending, words(",/PUNCT and/CCONJ they/PRON went/VERB home/ADV")), "\n\n")
    return {"speaker": "storyteller"}


_CHILDREN: dict[Gender, Noun] = {
    "she": Noun("girl", "girls", "person", "she"),
    "he": Noun("boy", "boys", "person", "he"),
}
_TIMES = (
    "one/NUM day/NOUN",
    "then/ADV",
    "the/DET next/ADJ morning/NOUN",
    "later/ADV",
    "in/ADP the/DET evening/NOUN",
    "after/ADP a/DET while/NOUN",
    "at/ADP midnight/NOUN",
)


def _named(draw: Draw, gender: Gender) -> Phrase:
    return name(draw.zipf(lexicon.GIRLS if gender == "she" else lexicon.BOYS), gender)


def _once_upon_a_time(hero: Phrase) -> Words:
    child = with_article((Word(_CHILDREN[hero.gender].singular, "NOUN"),))
    return sentence(
        words("once/ADV upon/SCONJ a/DET time/NOUN there/PRON was/VERB"), child, words("named/VERB"), hero.words
    )


def _begin(speaker: Speaker, hero: Phrase) -> Words:
    time = words(speaker.draw.zipf(_TIMES))
    return speaker.attempt(lambda speaker: sentence(time, hero.words, speaker.predicate(hero)))


def _event(speaker: Speaker, hero: Phrase, friend: Phrase) -> Words:
    draw = speaker.draw
    who, other = (hero, friend) if draw.chance(0.65) else (friend, hero)
    subject = who.as_pronoun() if who is hero and draw.chance(0.6) else who
    pick = draw.below(6)
    if pick == 0:
        return sentence(subject.words, speaker.predicate(who))
    if pick == 1:
        again = (*who.as_pronoun().words, *speaker.predicate(who))
        return sentence(subject.words, speaker.predicate(who), words(",/PUNCT and/CCONJ"), again)
    if pick == 2:
        # By name: a pronoun would tell the gender without the name being known.
        return sentence(who.words, verb_form(speaker.verb("groom").past), who.reflexive)
    if pick == 3:
        said, about = verb_form(speaker.verb("say").past), speaker.something("animal", "person", definite=0.8)
        return sentence(subject.words, said, words("that/SCONJ"), about.words, speaker.predicate(about))
    if pick == 4:
        told = (*words('"/PUNCT I/PRON want/VERB'), *speaker.something("thing", "food").words)
        said = verb_form(speaker.verb("say").past)
        return (*told, *words(',/PUNCT "/PUNCT'), *said, *who.words, *words("./PUNCT"))
    gift = speaker.something("thing", definite=0.3).words
    return sentence(other.words, verb_form("gave"), who.object, gift)


def _dialogue(draw: Draw, topic: str, page: Page) -> Metadata:
    """Let two people ask and answer."""
    speaker = Speaker(draw, topic)
    first, second = _named(draw, "she"), _named(draw, "he")
    if draw.chance(0.5):
        first, second = second, first
    colon = words(":/PUNCT")
    for _ in range(3 + draw.below(4)):
        page.write((*first.words, *colon), "\n")
        if draw.chance(0.45):
            exchange = speaker.attempt(_echoed)
            mark = next(place for place, word in enumerate(exchange) if word.text == "?") + 1
            question, answer = exchange[:mark], exchange[mark:]
        else:
            question = speaker.attempt(draw.weighted(tuple(_QUESTIONS), _weights("questions")))
            answer = speaker.attempt(draw.weighted(tuple(_ANSWERS), _weights("answers")))
        page.write(question)
        page.write((*second.words, *colon), "\n")
        page.write(answer)
        if draw.chance(0.5):
            page.write(speaker.attempt(draw.weighted(tuple(_ANSWERS), _weights("answers"))))
    return {"speaker": f"{first.words[0].text}, {second.words[0].text}"}


def _echoed(speaker: Speaker) -> Words:
    """Ask, and answer with the pronoun and the auxiliary that were asked with."""
    draw = speaker.draw
    it = speaker.something("animal", "person", "thing", definite=1.0)
    again = it.as_pronoun().words
    pick = draw.below(3)
    if pick == 0:
        asked = (*it.be(False), *it.words, *(speaker.adjective(it.kind) if draw.chance(0.6) else speaker.place()))
        back = (*again, *it.be(False))
    else:
        verb, rest = speaker.doing(it)
        has = it.have(False) if pick == 1 else it.do(False)
        form = verb_form(verb.participle if pick == 1 else verb.base)
        asked, back = (*has, *it.words, *form, *rest), (*again, *has)
    answer = words("yes/INTJ ,/PUNCT") if draw.chance(0.5) else words("no/INTJ ,/PUNCT")
    negation = () if answer[0].text == "yes" else words("not/PART")
    return (*sentence(asked, end="?"), *sentence(answer, back, negation))


def _encyclopedia(draw: Draw, topic: str, page: Page) -> Metadata:
    """Describe a kind of animal, person or thing in longer sentences, with words between subject and verb."""
    speaker = Speaker(draw, topic)
    defined: list[Noun] = []

    def definition(speaker: Speaker) -> Words:
        defined[:] = [speaker.noun("animal", "thing", "person")]
        noun = defined[0]
        kind = with_article((*speaker.attribute(noun.kind), Word(noun.kind, "NOUN")))
        return sentence(with_article((Word(noun.singular, "NOUN"),)), auxiliary("is"), kind)

    page.write(speaker.attempt(definition))
    kinds = Phrase((Word(defined[0].plural, "NOUN"),), True, "it", defined[0].kind)
    page.write(speaker.attempt(lambda speaker: sentence(kinds.words, speaker.predicate(kinds))))
    for _ in range(2 + draw.below(3)):
        gap = "\n\n"
        for _ in range(2 + draw.below(3)):
            if draw.chance(0.25):
                page.write(speaker.attempt(lambda speaker: _general(speaker, kinds)), gap)
            else:
                page.write(speaker.attempt(draw.weighted(tuple(_ENCYCLOPEDIA), _weights("encyclopedia"))), gap)
            gap = " "
    return {}


def _notes(draw: Draw, topic: str, page: Page) -> Metadata:
    """Note down a sentence or two, that need not belong together."""
    speaker = Speaker(draw, topic, past=draw.chance(0.3))
    for _ in range(1 + draw.chance(0.3)):
        page.write(speaker.attempt(draw.weighted(tuple(_NOTES), _weights("notes"))))
    return {}


def _general(speaker: Speaker, kinds: Phrase) -> Words:
    quantity = determiner(speaker.draw.one_of(("most", "some", "many", "all", "few")))
    about = Phrase((*quantity, *kinds.words), True, "it", kinds.kind)
    if speaker.draw.chance(0.5):
        return sentence(about.words, speaker.predicate(about))
    they = kinds.as_pronoun()
    told = (*speaker.predicate(about), *words("because/SCONJ"), *they.words, *speaker.predicate(they))
    return sentence(about.words, told)


@cache
def _weights(name: str) -> tuple[int, ...]:
    tables = {
        "story": _STORY,
        "questions": _QUESTIONS,
        "answers": _ANSWERS,
        "encyclopedia": _ENCYCLOPEDIA,
        "notes": _NOTES,
    }
    return tuple(accumulate(tables[name].values()))


DOMAINS: dict[str, Callable[[Draw, str, Page], Metadata]] = {
    "nursery": _nursery,
    "story": _story,
    "dialogue": _dialogue,
    "encyclopedia": _encyclopedia,
    "notes": _notes,
}
_ORDER = tuple(name for domain in DOMAINS if domain != "notes" for name in (domain, "notes", "notes", "notes"))
