import re
import statistics
from collections import Counter, defaultdict
from itertools import pairwise

import pytest
import world_parsing as parsing  # type: ignore[import-not-found]

from picolm.text.document import Document
from picolm.text.world import documents, lexicon
from picolm.text.world.english import DOMAINS
from picolm.text.world.english import document as make
from picolm.text.world.holdout import ONE_IN, is_held_out

Sentences = list[list[tuple[str, str]]]


@pytest.fixture(scope="module")
def read(corpus: list[Document]) -> Sentences:
    return parsing.of(corpus)  # type: ignore[no-any-return]


def test_domains_and_ids(corpus: list[Document]) -> None:
    assert Counter(document.domain for document in corpus) == {**dict.fromkeys(DOMAINS, 1000), "notes": 12000}
    assert len({document.id for document in corpus}) == 16000
    assert len({document.text for document in corpus}) > 15500


def test_any_document_can_be_made_alone() -> None:
    some = list(documents(seed=5, count=40))
    assert [make(5, index) for index in reversed(range(40))] == some[::-1]
    assert all(one.text != other.text for one, other in zip(some, documents(seed=6, count=40), strict=True))


def test_tags_cover_every_character_that_is_no_space_once_and_in_order(corpus: list[Document]) -> None:
    for text, tags in ((document.text, document.tags) for document in corpus):
        end = 0
        for start, stop, upos in tags:
            assert text[end:start].isspace() or start == end
            assert re.fullmatch(r"\w+" if upos != "PUNCT" else r'[.,?!:"]', text[start:stop]), text[start:stop]
            end = stop
        assert end == len(text)


def test_a_word_has_few_parts_of_speech(read: Sentences) -> None:
    tags = defaultdict(set)
    for sentence in read:
        for word, upos in sentence:
            tags[word].add(upos)
    assert {upos for some in tags.values() for upos in some} == {
        *("NOUN", "VERB", "AUX", "ADJ", "ADV", "PRON", "DET", "ADP"),
        *("NUM", "PROPN", "PART", "SCONJ", "CCONJ", "INTJ", "PUNCT"),
    }
    assert tags["that"] == {"DET", "PRON", "SCONJ"}
    several = {word for word, some in tags.items() if len(some) > 1}
    assert several - {"roll", "rolls", "swallow", "swallows"} == {
        "that",
        "this",
        "these",
        "is",
        "are",
        "was",
        "were",
        "no",
    }


def test_verbs_agree_with_the_heads_of_their_subjects(read: Sentences) -> None:
    found = Counter(pair for sentence in read for pair in parsing.agreements(sentence))
    assert not sum(count for (agrees, _), count in found.items() if not agrees)
    assert found[True, None] > 10_000
    assert found[True, "one"] > 500
    assert found[True, "many"] > 500


def test_persons_take_their_verbs(read: Sentences) -> None:
    seen = defaultdict(Counter)
    for sentence in read:
        # Behind `does` or `can` a verb agrees with nothing.
        for (word, upos), (after, _) in pairwise(sentence if sentence[-1][0] != "?" else []):
            if upos == "PRON" and word in ("i", "you", "we", "they", "she", "he", "it"):
                number = parsing.verb_number(after)
                if number and after not in ("was", "were"):
                    seen[word][after if after in ("am", "is", "are") else number] += 1
                if after == "am":
                    seen[word]["am"] += 1
    assert set(seen["i"]) == {"am", "many"}
    assert set(seen["you"]) == set(seen["we"]) == set(seen["they"]) == {"are", "many"}
    assert set(seen["she"]) == set(seen["he"]) == set(seen["it"]) == {"is", "one"}


def test_determiners_agree_with_their_nouns(read: Sentences) -> None:
    found = Counter()
    for sentence in read:
        for determiner, noun in re.findall(r"(\w+)/(?:DET|NUM|ADJ) (?:\w+/ADJ )?(\w+)/NOUN", parsing.line(sentence)):
            if determiner in ("this", "a", "an", "every", "each", "one"):
                assert parsing.noun_number(noun) != "many", (determiner, noun)
                found[determiner] += 1
            elif determiner in ("these", "those", "many", "few", "all", "most", *lexicon.NUMBERS):
                assert parsing.noun_number(noun) != "one", (determiner, noun)
                found[determiner] += 1
            elif determiner == "much":
                assert noun in {stuff.singular for stuff in lexicon.STUFF}
                found[determiner] += 1
    assert min(found[word] for word in ("this", "a", "an", "every", "these", "those", "many", "all", "much")) > 200


def test_articles_fit_the_sound(corpus: list[Document]) -> None:
    text = "\n".join(document.text for document in corpus)
    assert {word[0] for word in re.findall(r"\b[Aa]n (\w+)", text)} <= set("aeiou")
    assert {word for word in re.findall(r"\b[Aa] ([aeiou]\w+)", text)} <= {"unicorn"}


def test_reflexives_agree_across_what_stands_between(read: Sentences) -> None:
    pattern = re.compile(
        r"^(?:\w+/(?:DET|NUM|ADJ) (?:\w+/ADJ )?)?(?P<head>\w+)/(?:NOUN|PROPN) "
        r"(?P<pp>\w+/ADP (?:\w+/\w+ ){1,2}\w+/NOUN )?\w+/VERB (?P<self>\w+sel\w+)/PRON"
    )
    girls, boys = {name.lower() for name in lexicon.GIRLS}, {name.lower() for name in lexicon.BOYS}
    across = plain = 0
    for sentence in read:
        if not (match := pattern.match(parsing.line(sentence))):
            continue
        head, reflexive = match["head"], match["self"]
        if parsing.noun_number(head) == "many":
            assert reflexive == "themselves", sentence
        elif parsing.noun_number(head) == "one" or head in girls | boys:
            gender = "she" if head in girls else "he" if head in boys else parsing.GENDERS[head]
            allowed = {"she": {"herself"}, "he": {"himself"}, "it": {"itself"}, None: {"herself", "himself"}}
            assert reflexive in allowed[gender], sentence
        plain, across = plain + (not match["pp"]), across + bool(match["pp"])
    assert plain > 800
    assert across > 150


def test_polarity_items_are_licensed(read: Sentences) -> None:
    found = Counter()
    for sentence in read:
        line = " ".join(word for word, _ in sentence)
        negated = line.startswith("no ") or line.endswith("?")
        if " ever " in line:
            assert negated or " not ever " in line, line
            found["ever"] += 1
        if " any " in line:
            assert negated or re.search(r"\bnot \w+ any ", line), line
            found["any"] += 1
        if " already " in line:
            assert not negated, line
            assert " not already " not in line
            found["already"] += 1
            found["no before already"] += bool(re.search(r" no .* already ", line))
    assert min(found[word] for word in ("ever", "any", "already")) > 1000
    assert found["no before already"] > 50


def test_objects_are_missing_only_where_something_stands_for_them(read: Sentences) -> None:
    forms = {
        form
        for verb in lexicon.only("handle")
        for form in (verb.base, verb.third, verb.past, verb.ing, verb.participle)
    } - {"need"}
    gaps = objects = 0
    for sentence in read:
        for place, (word, upos) in enumerate(sentence):
            if upos != "VERB" or word not in forms:
                continue
            if sentence[place + 1][1] in ("DET", "NUM", "ADJ", "PRON"):
                objects += 1
            else:
                before = [other for other in sentence[:place] if other == ("what", "PRON") or other == ("that", "PRON")]
                assert before, sentence
                gaps += 1
    assert objects > 3000
    assert gaps > 1000


def test_what_is_held_out_never_stands_side_by_side(read: Sentences) -> None:
    verbs = {
        "am": "be",
        "are": "be",
        "is": "be",
        "was": "be",
        "were": "be",
        "has": "have",
        "have": "have",
        "had": "have",
    }
    verbs |= {"do": "do", "does": "do", "did": "do"}
    for verb in parsing.VERBS:
        for form in (verb.base, verb.third, verb.past, verb.participle, verb.ing):
            verbs.setdefault(form, verb.base)
    nouns = {form: noun.singular for noun in parsing.NOUNS for form in (noun.singular, noun.plural)}
    seen = {
        (nouns[word], verbs[after])
        for sentence in read
        for (word, upos), (after, following) in pairwise(sentence)
        if upos == "NOUN" and following in ("VERB", "AUX") and word in nouns and after in verbs
    }
    assert len(seen) > 3000
    assert not [pair for pair in seen if is_held_out(*pair)]
    every = [(noun, verb) for noun in set(nouns.values()) for verb in set(verbs.values())]
    assert abs(sum(is_held_out(*pair) for pair in every) / len(every) - 1 / ONE_IN) < 0.01


def test_words_are_frequent_and_rare(read: Sentences) -> None:
    counts = Counter(word for sentence in read for word, upos in sentence if upos == "NOUN")
    nouns = sorted((counts[noun.singular] + counts[noun.plural] for noun in parsing.NOUNS), reverse=True)
    assert nouns[-1] > 0
    assert nouns[0] > 20 * nouns[-1]


def test_children_are_told_more_as_they_grow(corpus: list[Document]) -> None:
    young, old = [], []
    for document in (document for document in corpus if document.domain == "nursery"):
        sentences = list(parsing.sentences(document.text, document.tags))
        length = len(document.tags) / len(sentences)
        age = document.metadata["age_months"]
        assert isinstance(age, int)
        assert 12 <= age <= 72
        (young if age < 24 else old if age > 54 else []).append((length, len(sentences)))
        if age < 36:
            assert " ever " not in document.text
    for part in (0, 1):
        assert statistics.mean(each[part] for each in old) > 1.2 * statistics.mean(each[part] for each in young)
    assert not any("age_months" in document.metadata for document in corpus if document.domain != "nursery")
