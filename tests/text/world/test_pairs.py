import json
import math
import re
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from world_parsing import agreements, sentences  # type: ignore[import-not-found]

from picolm.errors import PicoLMError
from picolm.text.document import Document
from picolm.text.world import MinimalPair, minimal_pairs, open_corpus, write_pairs
from picolm.text.world.pairs import make_pairs
from picolm.text.world.paradigms.english import ENGLISH
from picolm.text.world.paradigms.paradigm import Contrast, Paradigm
from picolm.text.world.words import sentence
from picolm.text.world.words import words as word_notation

COUNT = 200
CORPORA = ("embedded:english", "embedded:svo", "embedded:sov?agreement=both", "embedded:vso?case=particle")


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


@pytest.fixture(scope="module")
def pairs() -> list[MinimalPair]:
    return minimal_pairs(count=COUNT)


@pytest.fixture(scope="module")
def corpus_words(corpus: list[Document]) -> list[list[str]]:
    return [words(document.text) for document in corpus]


def accuracy(log_p: dict[str, float], pairs: list[MinimalPair]) -> float:
    def score(sentence: str) -> float:
        return math.fsum(log_p[word] for word in words(sentence))

    return sum((score(p.good) > score(p.bad)) + 0.5 * (score(p.good) == score(p.bad)) for p in pairs) / len(pairs)


def test_every_paradigm_has_its_pairs_and_no_pair_comes_twice(pairs: list[MinimalPair]) -> None:
    assert Counter(pair.paradigm for pair in pairs) == {paradigm.name: COUNT for paradigm in ENGLISH}
    assert len({(pair.paradigm, pair.good) for pair in pairs}) == len(pairs)
    assert len({pair.phenomenon for pair in pairs}) == 9


def test_each_pair_is_a_function_of_seed_and_number() -> None:
    some = minimal_pairs("filler_gap", count=40, seed=3)
    assert [pair for pair in minimal_pairs("filler_gap", count=60, seed=3) if pair.number < 40] == some
    assert {pair.good for pair in minimal_pairs("filler_gap", count=40, seed=4)} != {pair.good for pair in some}


@pytest.mark.parametrize("source", CORPORA)
def test_twins_mirror_each_other_or_are_reordered(source: str) -> None:
    for first, second in pairwise(minimal_pairs(count=60, corpus=source)):
        if first.number % 2 or first.number + 1 != second.number:
            continue
        gained = Counter(words(first.good))
        gained.subtract(words(first.bad))
        lost = Counter(words(second.bad))
        lost.subtract(words(second.good))
        assert {word: n for word, n in gained.items() if n} == {word: n for word, n in lost.items() if n}
        assert first.frequency_band == second.frequency_band


def test_a_unigram_scorer_is_at_chance_on_each_phenomenon(
    pairs: list[MinimalPair], corpus_words: list[list[str]]
) -> None:
    counts = Counter(word for document in corpus_words for word in document)
    total = sum(counts.values())
    log_p = {word: math.log(count / total) for word, count in counts.items()}
    groups = defaultdict(list)
    for pair in pairs:
        groups[pair.phenomenon].append(pair)
        groups[pair.paradigm].append(pair)
    for name, members in groups.items():
        assert abs(accuracy(log_p, members) - 0.5) < 1.96 * math.sqrt(0.25 / len(members)), name


def test_a_scorer_that_only_counts_words_is_at_chance_too(pairs: list[MinimalPair]) -> None:
    shorter = [
        (len(words(p.good)) < len(words(p.bad))) + 0.5 * (len(words(p.good)) == len(words(p.bad))) for p in pairs
    ]
    assert sum(shorter) / len(shorter) == 0.5


def test_a_bigram_scorer_fails_where_other_nouns_stand_between(
    pairs: list[MinimalPair], corpus_words: list[list[str]]
) -> None:
    ones, twos = Counter[str](), Counter[tuple[str, str]]()
    for document in corpus_words:
        ones.update(document)
        twos.update(pairwise(document))
    total = sum(ones.values())

    def score(sentence: str) -> float:
        steps = pairwise([".", *words(sentence)])
        return math.fsum(math.log(0.9 * twos[a, b] / ones[a] + 0.1 * ones[b] / total) for a, b in steps)

    def right(*paradigms: str) -> float:
        some = [score(pair.good) > score(pair.bad) for pair in pairs if pair.paradigm in paradigms]
        return sum(some) / len(some)

    assert right("agreement_across_phrase", "agreement_be_across_phrase", "agreement_across_subject_relative") < 0.5
    misleading = [paradigm.name for paradigm in ENGLISH if paradigm.misleads]
    assert len(misleading) == 7
    assert max(right(name) for name in misleading) < 0.6
    assert right("agreement_person", "agreement_person_be", "demonstrative_noun") > 0.9


def test_bad_sentences_differ_by_one_span_or_by_order(pairs: list[MinimalPair]) -> None:
    for pair in pairs:
        good, bad = words(pair.good), words(pair.bad)
        assert good != bad
        if Counter(good) == Counter(bad):
            continue
        start = next(i for i in range(len(good) + 1) if good[: i + 1] != bad[: i + 1])
        tail = next(i for i in range(len(good)) if good[len(good) - 1 - i] != bad[len(bad) - 1 - i])
        changed = max(len(good), len(bad)) - start - tail
        assert changed <= 2, pair


def test_the_corpus_has_no_bad_sentence_and_no_novel_good_one(pairs: list[MinimalPair], corpus: list[Document]) -> None:
    said = {part.strip() for document in corpus for part in re.findall(r"[^.?!\n]+[.?!]", document.text)}
    assert len(said) > 40_000
    assert not [pair for pair in pairs if pair.bad in said]
    novel = [pair for pair in pairs if pair.is_novel]
    assert len(novel) > len(pairs) * 0.4
    assert not [pair for pair in novel if pair.good in said]


def test_frequent_heads_are_frequent(pairs: list[MinimalPair], corpus_words: list[list[str]]) -> None:
    counts = Counter(word for document in corpus_words for word in document)
    means = {}
    for band in ("frequent", "middle", "rare"):
        heads = [
            counts[words(pair.good)[1]]
            for pair in pairs
            if pair.paradigm == "agreement_be" and pair.frequency_band == band
        ]
        assert abs(len(heads) - COUNT / 3) < 2
        means[band] = sum(heads) / len(heads)
    assert means["frequent"] > 2 * means["middle"] > 3 * means["rare"]


def test_agreement_pairs_are_judged_rightly_by_the_reader_of_tags(pairs: list[MinimalPair]) -> None:
    judged = 0
    for pair in pairs:
        if not pair.paradigm.startswith("agreement_") or pair.paradigm in ("agreement_person", "agreement_person_be"):
            continue
        if pair.paradigm in ("agreement_question", "agreement_across_subject_relative"):
            continue
        (good,), (bad,) = sentences(pair.good, pair.good_tags), sentences(pair.bad, pair.bad_tags)
        verdicts = [agrees for agrees, _ in agreements(good)], [agrees for agrees, _ in agreements(bad)]
        assert all(verdicts[0]), pair
        assert not all(verdicts[1]), pair
        judged += bool(verdicts[0])
    assert judged == 7 * COUNT


def test_files_have_the_keys_of_blimp(tmp_path: Path) -> None:
    made = minimal_pairs("question_gap", count=6)
    assert write_pairs(made, tmp_path / "deep" / "pairs.jsonl") == 6
    records = [json.loads(line) for line in (tmp_path / "deep" / "pairs.jsonl").read_text().splitlines()]
    assert list(records[0])[:6] == ["sentence_good", "sentence_bad", "field", "linguistics_term", "UID", "pairID"]
    assert [(record["sentence_good"], record["pairID"]) for record in records] == [
        (p.good, str(p.number)) for p in made
    ]
    assert {(record["UID"], record["linguistics_term"]) for record in records} == {("question_gap", "filler_gap")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 3}, "even count"),
        ({"count": 0}, "even count"),
        ({"phenomenon": "filler_gaps"}, "no phenomenon or paradigm 'filler_gaps'; did you mean 'filler_gap'"),
        ({"corpus": "embedded:pcfg"}, "embedded:pcfg has no minimal pairs"),
        ({"corpus": "embedded:svo", "phenomenon": "case"}, "no phenomenon or paradigm 'case'"),
    ],
)
def test_what_cannot_be_made_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(PicoLMError, match=message):
        minimal_pairs(**arguments)  # type: ignore[arg-type]


def test_a_paradigm_that_has_too_few_pairs_says_so() -> None:
    one = Contrast(sentence(word_notation("it/PRON sleeps/VERB")), sentence(word_notation("it/PRON sleep/VERB")))
    two = Contrast(sentence(word_notation("they/PRON sleep/VERB")), sentence(word_notation("they/PRON sleeps/VERB")))
    single = Paradigm("single", "few", "syntax", "a rule", lambda draw, band: (one, two))
    assert [pair.good for pair in make_pairs([single], count=2, seed=0, key="k")] == ["It sleeps.", "They sleep."]
    with pytest.raises(PicoLMError, match="single has not 4 different pairs: ask for at most 2"):
        list(make_pairs([single], count=4, seed=0, key="k"))


def test_paradigms_of_a_typology_follow_its_parameters() -> None:
    def names(source: str) -> set[str]:
        return {paradigm.name for paradigm in open_corpus(source).paradigms()}

    assert "case_particles" in names("sov")
    assert "case_particles" not in names("svo")
    assert names("vso") - names("svo") == {"object_agreement"}
    assert "subject_agreement" not in names("sov")
