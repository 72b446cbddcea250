import re
from collections import Counter

import pytest

from picolm.text.world import open_corpus
from picolm.text.world.messages import Message, messages
from picolm.text.world.pseudowords import lexicon
from picolm.text.world.typology import LANGUAGES, Language

CLASSES = ("animate", "thing", "place", "intransitive", "transitive", "quality", "relation")
SENTENCES = [message for index in range(60) for message in messages(0, index)]


def stems(language: Language, message: Message) -> Counter[str]:
    """The stems of a sentence, without endings: those of the lexicon that its words begin with."""
    known = [stem for name in CLASSES for stem in getattr(lexicon(0), name)]
    found: Counter[str] = Counter()
    for word in language.say(message):
        if word.upos in ("NOUN", "VERB", "ADJ") or (word.upos == "ADP" and word.text.lower() not in ("ga", "wo")):
            (stem,) = [stem for stem in known if word.text.lower().startswith(stem)]
            found[stem] += 1
    return found


@pytest.mark.parametrize("name", ["sov", "vso"])
def test_all_languages_say_the_same(name: str) -> None:
    for message in SENTENCES:
        assert stems(LANGUAGES[name], message) == stems(LANGUAGES["svo"], message)


def shape(language: Language, message: Message) -> str:
    return " ".join(word.upos for word in language.say(message)[:-1])


def test_the_order_of_words_is_that_of_the_language() -> None:
    plain = [m for m in SENTENCES if m.object and not any(_is_modified(e) for e in (m.subject, m.object))]
    assert len(plain) > 80
    assert {shape(LANGUAGES["svo"], m) for m in plain} == {"NOUN AUX VERB NOUN"}
    assert {shape(LANGUAGES["sov"], m) for m in plain} == {"NOUN ADP NOUN ADP VERB AUX"}
    assert {shape(LANGUAGES["vso"], m) for m in plain} == {"AUX VERB NOUN NOUN"}
    for name in ("svo", "vso"):
        said = [LANGUAGES[name].say(message)[-2].text for message in plain]
        assert all(word.startswith(lexicon(0).animate + lexicon(0).thing) for word in said)
    subjects = [LANGUAGES["vso"].say(message)[2].text for message in plain]
    assert all(word.startswith(lexicon(0).animate) for word in subjects)


def _is_modified(entity: object) -> bool:
    return any(getattr(entity, name) is not None for name in ("quality", "near", "relative"))


def test_modifiers_stand_on_the_side_of_the_language() -> None:
    before, after = Language("sov", "none", "none"), Language("vso", "none", "none")
    qualified = [m for m in SENTENCES if m.subject.quality and not m.object]
    placed = [m for m in SENTENCES if m.subject.near and not m.object]
    assert len(qualified) > 20
    assert len(placed) > 20
    assert {shape(before, m) for m in qualified} == {"ADJ NOUN VERB AUX"}
    assert {shape(after, m) for m in qualified} == {"AUX VERB NOUN ADJ"}
    assert {shape(before, m) for m in placed} == {"NOUN ADP NOUN VERB AUX"}
    assert {shape(after, m) for m in placed} == {"AUX VERB NOUN ADP NOUN"}


def test_case_particles_tell_subjects_from_objects() -> None:
    for message in SENTENCES:
        said = [word.text.lower() for word in Language("sov", "particle", "none").say(message)]
        relative = message.subject.relative
        inner = relative.is_subject if relative else None
        assert said.count("ga") == 1 + (inner is False)
        assert said.count("wo") == (message.object is not None) + (inner is True)


def test_verbs_end_in_the_numbers_of_their_arguments() -> None:
    number = {"ka": False, "ru": True, "ti": False, "mo": True}
    for message in SENTENCES:
        if message.object is None or message.subject.relative:
            continue
        (verb,) = [word.text for word in LANGUAGES["vso"].say(message) if word.upos == "VERB"]
        subject, target = re.fullmatch(r"\w+?(ka|ru)(ti|mo)", verb).groups()  # type: ignore[union-attr]
        assert (number[subject], number[target]) == (message.subject.plural, message.object.plural)
        (verb,) = [word.text for word in LANGUAGES["svo"].say(message) if word.upos == "VERB"]
        assert number[verb[-2:]] == message.subject.plural


def test_lexicons_are_seeded_and_their_stems_differ() -> None:
    one, other = lexicon(0), lexicon(1)
    every = [stem for name in CLASSES for stem in getattr(one, name)]
    assert len(set(every)) == len(every) == 48 + 60 + 20 + 28 + 44 + 24 + 5
    assert one.animate != other.animate
    assert all(re.fullmatch(r"(?:[ptkbdgmnslrvzf][aeiou]){1,3}[nlrsm]?", stem) for stem in every)


def test_tags_cover_the_text() -> None:
    for document in open_corpus("vso?documents=20&case=particle").documents():
        rest = list(document.text)
        for start, stop, _ in document.tags:
            rest[start:stop] = " " * (stop - start)
        assert not "".join(rest).strip()
