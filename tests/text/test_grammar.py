import hashlib
import json
import re
from collections import Counter

import pytest

from picolm.randomness import generator
from picolm.text import grammar, lexicon
from picolm.text.document import Document
from picolm.text.phrases import Draw, Phrase, Speaker


@pytest.fixture(scope="module")
def corpus() -> list[Document]:
    return list(grammar.documents())


def of(corpus: list[Document], domain: str) -> str:
    return "\n".join(document.text for document in corpus if document.domain == domain)


VERBS = [verb for verbs in lexicon.VERBS.values() for verb in verbs]
BASES, THIRDS = {verb.base for verb in VERBS}, {verb.third for verb in VERBS}
PASTS = {verb.past for verb in VERBS}
NOUNS = [noun for kinds in lexicon.NOUNS.values() for nouns in kinds.values() for noun in nouns]


def test_the_default_corpus_is_the_one_that_is_declared(corpus: list[Document]) -> None:
    digest = hashlib.sha256()
    for document in corpus:
        record = [document.id, document.domain, document.text, dict(document.metadata)]
        digest.update(json.dumps(record).encode() + b"\n")
    # After a deliberate change of the grammar, write these two values into grammar.py.
    assert sum(len(document.text.encode()) for document in corpus) == grammar.CORPUS_BYTES
    assert digest.hexdigest() == grammar.CORPUS_SHA256


def test_its_size_and_domains(corpus: list[Document]) -> None:
    assert len(corpus) == 4000
    assert 1_500_000 < grammar.CORPUS_BYTES < 2_500_000
    assert Counter(document.domain for document in corpus) == dict.fromkeys(grammar.DOMAINS, 1000)
    assert len({document.id for document in corpus}) == 4000
    assert len({document.text for document in corpus}) == 4000


def test_any_document_can_be_made_alone() -> None:
    some = list(grammar.documents(seed=5, count=40))
    assert [grammar.document(5, index) for index in reversed(range(40))] == some[::-1]
    assert all(one.text != other.text for one, other in zip(some, grammar.documents(seed=6, count=40), strict=True))


def test_after_a_pronoun_the_verb_agrees(corpus: list[Document]) -> None:
    text = of(corpus, "nursery")
    singular, plural = set(re.findall(r"\bIt (\w+)", text)), set(re.findall(r"\bThey (\w+)", text))
    assert len(singular) > 20
    assert len(plural) > 20
    assert singular <= THIRDS | {"is"}
    assert plural <= BASES | {"are"}


def test_stories_are_in_the_past(corpus: list[Document]) -> None:
    after = set(re.findall(r"\b(?:He|She) (\w+)", of(corpus, "story")))
    assert len(after) > 30
    assert after <= PASTS | {"was", "lived", "looked"}


def test_determiners_agree_with_their_nouns(corpus: list[Document]) -> None:
    singulars, plurals = {noun.singular for noun in NOUNS}, {noun.plural for noun in NOUNS}
    adjectives = "|".join(sorted({word for words in lexicon.ADJECTIVES.values() for word in words} | {"frightened"}))
    text = "\n".join(document.text for document in corpus).lower()
    many = re.findall(rf"\b(?:these|those|some|many|{'|'.join(lexicon.NUMBERS)}) (?:(?:{adjectives}) )?(\w+)", text)
    one = re.findall(rf"\b(?:this|a|an|every) (?:(?:{adjectives}) )?(\w+)", text)
    assert set(many) - {"are"} <= plurals
    assert set(one) - {"is", "time", "while"} <= singulars | {"animal", "thing", "person"}


def test_articles_fit_the_sound(corpus: list[Document]) -> None:
    text = "\n".join(document.text for document in corpus)
    assert {word[0] for word in re.findall(r"\b[Aa]n (\w+)", text)} <= set("aeiou")
    assert {word for word in re.findall(r"\ba ([aeiou]\w+)", text)} <= {"unicorn"}


def test_reflexives_and_names_agree_in_gender(corpus: list[Document]) -> None:
    found = re.findall(r"\b([A-Z]\w+) looked at (\w+)", of(corpus, "story"))
    girls = {"herself"} == {reflexive for name, reflexive in found if name in lexicon.GIRLS}
    boys = {"himself"} == {reflexive for name, reflexive in found if name in lexicon.BOYS}
    assert girls
    assert boys


def test_answers_agree_with_questions(corpus: list[Document]) -> None:
    turns = re.findall(r"A: (Is|Are|Do|Does) .*\?\nB: (?:Yes|No), (\w+) (\w+)", of(corpus, "dialogue"))
    assert len(turns) > 1000
    for auxiliary, pronoun, repeated in turns:
        assert repeated == auxiliary.lower()
        assert (pronoun == "they") == (auxiliary in ("Are", "Do"))


@pytest.mark.parametrize("plural", [False, True])
def test_the_verb_agrees_across_an_attractor_and_a_relative_clause(plural: bool) -> None:
    allowed = BASES | {"are"} if plural else THIRDS | {"is"}
    attracted = 0
    for index in range(300):
        speaker = Speaker(Draw(generator(0, index)), "farm", past=False)
        noun = lexicon.NOUNS["farm"]["animal"][index % 4]
        head = speaker.phrase(noun, plural=plural)
        near = speaker.with_attractor(head)
        inner = near.text.removeprefix(head.text).split()
        attracted += (inner[-1] in {other.plural for other in NOUNS}) != plural
        assert speaker.predicate(near).split()[0] in allowed
        whose = speaker.with_relative(head)
        relative = whose.text.removeprefix(head.text).split()
        assert relative[0] in ("that", "who")
        if relative[1] in BASES | THIRDS | {"is", "are"}:
            assert relative[1] in allowed
        assert speaker.predicate(whose).split()[0] in allowed
    assert 100 < attracted < 250


def test_pronouns_of_a_phrase() -> None:
    herself = Phrase("Anna", False, "she", "person")
    assert (herself.pronoun, herself.object, herself.possessive, herself.reflexive) == ("she", "her", "her", "herself")
    cows = Phrase("the cows", True, "it", "animal")
    assert (cows.pronoun, cows.object, cows.possessive, cows.reflexive) == ("they", "them", "their", "themselves")


def test_words_are_frequent_and_rare(corpus: list[Document]) -> None:
    words = Counter(re.findall(r"[a-z]+", "\n".join(document.text for document in corpus).lower()))
    nouns = sorted((words[noun.singular] + words[noun.plural] for noun in set(NOUNS)), reverse=True)
    assert len(words) > 600
    assert min(nouns) > 0
    assert nouns[0] > 20 * nouns[-1]


def test_a_document_keeps_to_its_topic(corpus: list[Document]) -> None:
    shares = Counter[bool]()
    for document in corpus:
        mine = {noun.singular for nouns in lexicon.NOUNS[str(document.metadata["topic"])].values() for noun in nouns}
        for word in re.findall(r"[a-z]+", document.text):
            if word in ALL_SINGULAR:
                shares[word in mine] += 1
    assert shares[True] > 2.5 * shares[False]


ALL_SINGULAR = {noun.singular for noun in NOUNS}
