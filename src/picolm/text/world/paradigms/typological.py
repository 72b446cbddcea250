"""The paradigms of a typology: which there are depends on what its language marks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from picolm.text.world import messages, pseudowords
from picolm.text.world.draw import Draw
from picolm.text.world.messages import Entity, Message
from picolm.text.world.paradigms.paradigm import BANDS, Band, Contrast, Paradigm, Twins
from picolm.text.world.typology import Language
from picolm.text.world.words import Word, Words, sentence


def paradigms(language: Language) -> tuple[Paradigm, ...]:
    """Return the paradigms that a language has."""

    def made(
        name: str,
        phenomenon: str,
        field: str,
        rule: str,
        of: Callable[[Language, Draw, Band], Twins],
        misleads: bool = False,
    ) -> Paradigm:
        return Paradigm(name, phenomenon, field, rule, lambda draw, band: of(language, draw, band), misleads)

    found = [made("verb_position", "word_order", "syntax", "the verb has its place", _verb_position)]
    found.append(made("adposition", "word_order", "syntax", "an adposition has its side", _adposition))
    if language.case == "particle":
        rule = "the particles of subject and object come in their order"
        found.append(made("case_particles", "case", "syntax", rule, _case))
    if language.agreement != "none":
        rule = "the verb has the number of its subject"
        found.append(made("subject_agreement", "agreement", "morphology", rule, _subject_agreement))
        rule += ", not of the noun in between"
        found.append(made("subject_agreement_attractor", "agreement", "morphology", rule, _attracted, True))
    if language.agreement == "both":
        rule = "the verb has the number of its object"
        found.append(made("object_agreement", "agreement", "morphology", rule, _object_agreement))
    return tuple(found)


def _animate(draw: Draw, band: Band) -> Entity:
    third = messages.ANIMATES // len(BANDS)
    return Entity("animate", BANDS.index(band) * third + draw.below(third), draw.chance(0.5))


def _action(draw: Draw, band: Band) -> Message:
    verb = draw.zipf(range(messages.TRANSITIVES))
    return Message(_animate(draw, band), verb, messages.entity(draw), draw.chance(0.5))


def _renumbered(language: Language, message: Message, role: str) -> Twins:
    """Say a message and its twin of the other number; each takes the other's verb in its bad sentence."""
    entity = message.subject if role == "subject" else message.object
    assert entity is not None
    near = entity.near and (entity.near[0], replace(entity.near[1], plural=not entity.near[1].plural))
    changed = replace(entity, plural=not entity.plural, near=near)
    twin = replace(message, subject=changed) if role == "subject" else replace(message, object=changed)
    return _verb_swapped(language, message, twin), _verb_swapped(language, twin, message)


def _verb_swapped(language: Language, message: Message, other: Message) -> Contrast:
    good, wrong = language.say(message), language.verb(other)
    right = language.verb(message)
    # Compared without capitals: in a language that begins with its verb the first of these words is capitalised.
    spelled = [Word(word.text.lower(), word.upos) for word in good]
    bad = [wrong[right.index(word)] if word in right else word for word in spelled]
    return Contrast(good, sentence(tuple(bad[:-1])))


def _subject_agreement(language: Language, draw: Draw, band: Band) -> Twins:
    return _renumbered(language, _action(draw, band), "subject")


def _attracted(language: Language, draw: Draw, band: Band) -> Twins:
    message = _action(draw, band)
    place = Entity("place", draw.zipf(range(messages.PLACES)), not message.subject.plural)
    near = (draw.zipf(range(messages.RELATIONS)), place)
    return _renumbered(language, replace(message, subject=replace(message.subject, near=near)), "subject")


def _object_agreement(language: Language, draw: Draw, band: Band) -> Twins:
    return _renumbered(language, _action(draw, band), "object")


def _twice(contrast: Callable[[Language, Message], Contrast], language: Language, draw: Draw, band: Band) -> Twins:
    return contrast(language, _action(draw, band)), contrast(language, _action(draw, band))


def _verb_position(language: Language, draw: Draw, band: Band) -> Twins:
    def contrast(language: Language, message: Message) -> Contrast:
        assert message.object is not None
        subject, target = language.phrase(message.subject, "subject"), language.phrase(message.object, "object")
        parts = {"s": subject, "v": language.verb(message), "o": target}
        order = {"svo": "sov", "sov": "svo", "vso": "svo"}[language.order]
        return Contrast(language.say(message), sentence(*(parts[letter] for letter in order)))

    return _twice(contrast, language, draw, band)


def _adposition(language: Language, draw: Draw, band: Band) -> Twins:
    place = Entity("place", draw.zipf(range(messages.PLACES)), draw.chance(0.5))
    relation = draw.zipf(range(messages.RELATIONS))

    def contrast(language: Language, message: Message) -> Contrast:
        good = language.say(replace(message, subject=replace(message.subject, near=(relation, place))))
        lowered = [Word(word.text.lower(), word.upos) for word in good[:-1]]
        at = next(at for at, word in enumerate(lowered) if word.upos == "ADP" and word.text not in _PARTICLES)
        other = at - 1 if language.is_head_final else at + 1
        lowered[at], lowered[other] = lowered[other], lowered[at]
        return Contrast(good, sentence(tuple(lowered)))

    return _twice(contrast, language, draw, band)


_PARTICLES = frozenset(pseudowords.CASES.values())


def _case(language: Language, draw: Draw, band: Band) -> Twins:
    swap = {pseudowords.CASES["subject"]: pseudowords.CASES["object"]}
    swap |= {after: before for before, after in swap.items()}

    def contrast(language: Language, message: Message) -> Contrast:
        good = language.say(message)
        bad: Words = tuple(Word(swap.get(word.text.lower(), word.text.lower()), word.upos) for word in good[:-1])
        return Contrast(good, sentence(bad))

    return _twice(contrast, language, draw, band)
