"""The embedded corpus: simple English from a seeded grammar, so that everything works without a download.

Four domains from child-directed to adult: `nursery`, `story`, `dialogue`, `encyclopedia`. Verbs agree with their
subjects (across a prepositional phrase or a relative clause too), determiners with their nouns, pronouns and reflexives
with what they refer to; words follow Zipf's law, and a document keeps to its topic. What it says is not true of any
world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from picolm.randomness import generator
from picolm.text import lexicon
from picolm.text.document import Document
from picolm.text.lexicon import Gender, Noun, with_article
from picolm.text.phrases import Draw, Phrase, Speaker, sentence

COUNT = 4000
# Of the default corpus: these let a cache know it without generating it. A test compares them with the real ones.
CORPUS_BYTES = 1988458
CORPUS_SHA256 = "d283c238449e3e575e38008fb9d7097ef925bb04b529dffbd8c80183a9a4c4e5"


def documents(seed: int = 0, count: int = COUNT) -> Iterator[Document]:
    """Generate the corpus; the defaults are `embedded:english`.

    Args:
        seed: of the whole corpus.
        count: how many documents; fewer are a prefix of more.
    """
    return (document(seed, index) for index in range(count))


def document(seed: int, index: int) -> Document:
    """Generate one document, a pure function of its arguments."""
    domain = tuple(DOMAINS)[index % len(DOMAINS)]
    draw = Draw(generator(seed, "embedded:english", index))
    topic = draw.zipf(lexicon.TOPICS)
    text = DOMAINS[domain](Speaker(draw, topic, past=domain == "story"))
    return Document(f"{domain}-{index}", text, domain, {"topic": topic})


def _nursery(speaker: Speaker) -> str:
    """Talk to a small child about what is in sight."""
    draw = speaker.draw
    lines = []
    for _ in range(4 + int(draw.uniform() * 5)):
        noun = speaker.noun("animal", "thing", "food", "person")
        plural = draw.chance(0.4)
        it = speaker.phrase(noun, plural=plural, adjective=0.1)
        bare = noun.plural if plural else noun.singular
        seen = speaker.phrase(noun, plural=plural, definite=False).text
        opening = draw.one_of(
            (
                sentence(f"look, {seen}", "!"),
                sentence(f"where {it.be(False)} {it.text}", "?"),
                sentence(f"do you see {it.text}", "?"),
                sentence(f"what {it.do(False)} {it.text} do", "?"),
                sentence(f"this is {with_article(bare)}" if not plural else f"these are {bare}"),
            )
        )
        rest = [sentence(f"{it.as_pronoun().text} {speaker.predicate(it)}") for _ in range(1 + draw.chance(0.6))]
        if draw.chance(0.4):
            rest.append(sentence(draw.one_of((f"do you like {it.object}", f"can you see {it.object}")), "?"))
        if draw.chance(0.2):
            rest.append(sentence(f"{it.text} {speaker.negated(it)}"))
        lines.append(" ".join((opening, *rest)))
    return "\n".join(lines)


_CHILDREN: dict[Gender, Noun] = {
    "she": Noun("girl", "girls", "person", "she"),
    "he": Noun("boy", "boys", "person", "he"),
}


def _named(draw: Draw, gender: Gender) -> Phrase:
    return Phrase(draw.zipf(lexicon.GIRLS if gender == "she" else lexicon.BOYS), False, gender, "person")


def _story(speaker: Speaker) -> str:
    """Tell what happened to two people, of different gender so that a pronoun says who."""
    draw = speaker.draw
    genders: tuple[Gender, Gender] = ("she", "he") if draw.chance(0.5) else ("he", "she")
    hero, friend = (_named(draw, gender) for gender in genders)
    child = speaker.phrase(_CHILDREN[hero.gender], definite=False)
    begin = sentence(f"once upon a time there was {child.text} named {hero.text}")
    pet = speaker.noun("animal").singular
    lines = [f"{begin} {sentence(f'{hero.pronoun} lived {speaker.place()} with {hero.possessive} {pet}')}"]
    for _ in range(2 + int(draw.uniform() * 3)):
        told = [_event(speaker, hero, friend) for _ in range(3 + int(draw.uniform() * 3))]
        lines.append(" ".join((sentence(f"{_time(draw)} {hero.text} {speaker.predicate(hero)}"), *told)))
    lines.append(sentence(f"{hero.text} and {friend.text} were {speaker.adjective('person')}, and they went home"))
    return "\n\n".join(lines)


def _time(draw: Draw) -> str:
    return draw.zipf(("one day", "then", "the next morning", "later", "in the evening", "after a while", "at midnight"))


def _event(speaker: Speaker, hero: Phrase, friend: Phrase) -> str:
    draw = speaker.draw
    who, other = (hero, friend) if draw.chance(0.65) else (friend, hero)
    subject = who.as_pronoun() if who is hero and draw.chance(0.7) else who
    said = draw.zipf(lexicon.VERBS["say"]).past
    animal = speaker.something("animal", "person", definite=0.4)
    thing = speaker.with_relative(speaker.something("thing", "food"))
    events: tuple[Callable[[], str], ...] = (
        lambda: sentence(f"{subject.text} {speaker.predicate(who)}"),
        lambda: sentence(f"{subject.text} {speaker.predicate(who)}, and {who.pronoun} {speaker.predicate(who)}"),
        lambda: sentence(f"{subject.text} saw {speaker.with_relative(animal).text}"),
        lambda: sentence(f"{subject.text} found {thing.text}, but {other.text} {speaker.negated(other)}"),
        lambda: sentence(f"{animal.text} {speaker.predicate(animal)}, so {who.text} called {animal.object}"),
        lambda: sentence(f"{subject.text} looked at {who.reflexive} and {speaker.predicate(who)}"),
        lambda: sentence(f"{subject.text} {said} that {animal.text} {speaker.predicate(animal)}"),
        lambda: f'"I want {speaker.something("thing", "food").text}," said {who.text}.',
        lambda: sentence(f"{other.text} gave {who.object} {speaker.something('thing', definite=0.3).text}"),
    )
    return draw.one_of(events)()


def _dialogue(speaker: Speaker) -> str:
    """Let two people ask and answer: questions invert or take `do`, answers agree with what was asked."""
    draw = speaker.draw
    turns = []
    for _ in range(3 + int(draw.uniform() * 4)):
        it = speaker.something("animal", "person", "thing", definite=1.0)
        adjective = speaker.adjective(it.kind)
        yes = draw.chance(0.5)
        answer, no = ("Yes", "") if yes else ("No", " not")
        question, reply = draw.one_of(
            (
                (f"{it.be(False)} {it.text} {adjective}", f"{it.pronoun} {it.be(False)}{no}"),
                (f"{it.be(False)} {it.text} {speaker.place()}", f"{it.pronoun} {it.be(False)}{no}"),
                (f"did you see {it.text}", "I saw " + it.object if yes else "I did not see " + it.object),
                (f"{it.do(False)} {it.text} {_bare(speaker, it)}", f"{it.pronoun} {it.do(False)}{no}"),
                (f"have you got {it.text}", f"I have{no}"),
            )
        )
        more = f" {sentence(f'I think that {it.pronoun} {speaker.predicate(it)}')}" if draw.chance(0.5) else ""
        turns += [f"A: {sentence(question, '?')}", f"B: {answer}, {reply}.{more}"]
        if draw.chance(0.3):
            turns.append(f"A: {sentence(f'{speaker.with_attractor(it).text} {it.be(False)} {adjective}')}")
    return "\n".join(turns)


def _bare(speaker: Speaker, subject: Phrase) -> str:
    verbs = "act" if subject.kind in ("person", "animal") else "happen"
    return speaker.draw.zipf(lexicon.VERBS[verbs]).base


def _encyclopedia(speaker: Speaker) -> str:
    """Describe a kind of animal or thing in longer sentences, with words between subject and verb."""
    draw = speaker.draw
    noun = speaker.noun("animal", "thing", "person")
    kinds = Phrase(noun.plural, True, "it", noun.kind)
    what = with_article(f"{speaker.attribute(noun.kind)} {noun.kind}")
    definition = sentence(f"{with_article(noun.singular)} is {what}")
    lines = [f"{definition} {sentence(f'{kinds.text} {speaker.predicate(kinds)}')}"]
    for _ in range(2 + int(draw.uniform() * 3)):
        told = [_fact(speaker, kinds) for _ in range(2 + int(draw.uniform() * 3))]
        lines.append(" ".join(told))
    return "\n\n".join(lines)


def _fact(speaker: Speaker, kinds: Phrase) -> str:
    draw = speaker.draw
    plain = speaker.something("animal", "thing", "person", definite=1.0, plural=0.5)
    near, whose = speaker.with_attractor(plain), speaker.with_relative(plain)
    most = f"{draw.one_of(('most', 'some', 'many', 'all', 'few'))} {kinds.text}"
    animal, thing = speaker.noun("animal").singular, speaker.something("thing", definite=0.0, plural=0.5)
    contrast = f"although {kinds.text} are {speaker.adjective(kinds.kind)}"
    facts: tuple[Callable[[], str], ...] = (
        lambda: sentence(f"{near.text} {speaker.predicate(near)}"),
        lambda: sentence(f"{whose.text} {speaker.predicate(whose)}"),
        lambda: sentence(f"{most} {speaker.predicate(kinds)}"),
        lambda: sentence(f"{kinds.text} {speaker.negated(kinds)} because they {speaker.predicate(kinds)}"),
        lambda: sentence(f"there {thing.be(False)} {thing.text} {speaker.place()}"),
        lambda: sentence(f"{contrast}, {near.text} {speaker.predicate(near)}"),
        lambda: sentence(f"every {animal} {draw.zipf(lexicon.VERBS['act']).third} {speaker.place()}"),
    )
    return draw.one_of(facts)()


DOMAINS: dict[str, Callable[[Speaker], str]] = {
    "nursery": _nursery,
    "story": _story,
    "dialogue": _dialogue,
    "encyclopedia": _encyclopedia,
}
