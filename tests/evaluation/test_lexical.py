"""Lexical decision equals a direct loop over the scorer; non-words are what the n-gram model says they are."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.errors import PicoLMError
from picolm.evaluation.masked import MaskedScorer
from picolm.evaluation.nonwords import CharacterNGrams, match_nonwords, write_nonwords
from picolm.evaluation.scoring import CausalScorer, FirstToken
from picolm.evaluation.task import Figure, Subject, parse_task
from picolm.model.transformer import Transformer
from picolm.randomness import generator
from picolm.text.tokenizer import Tokenizer

from .conftest import engine, material

Table = Mapping[tuple[str, str], Figure]
PAIRS = [
    ("one", "eno"),
    ("three", "thrue"),
    ("seven", "nevesses"),
    ("eleven", "eel"),
    ("twelve", "twelvenone"),
    ("cats", "dogcats"),
    ("猫", "好猫"),
]
WORDS = [
    "seven",
    "eleven",
    "twelve",
    "thirteen",
    "cats",
    "dogs",
    "costs",
    "unbelievably",
    "naive",
    "where",
    "there",
    "here",
    "two",
    "one",
    "three",
]


def measured(model: Transformer, tokenizer: Tokenizer, words: str) -> Table:
    task = parse_task(words)
    task.prepare(material(model, tokenizer))
    return {(f.subset, f.metric): f for f in task.measure(Subject(engine(model))).figures}


def records(**changes: str) -> list[dict[str, str]]:
    return [{"word": word, "nonword": nonword, **changes} for word, nonword in PAIRS]


@pytest.mark.parametrize("reduction", ["sum", "mean", "characters"])
@pytest.mark.parametrize("context", ["", "The cats that", "a"])
@pytest.mark.parametrize("space", ["space", "as_is"])
def test_accuracy_equals_a_direct_loop(
    causal: Transformer,
    tokenizer: Tokenizer,
    write_jsonl: Callable[..., Path],
    reduction: str,
    context: str,
    space: str,
) -> None:
    file = write_jsonl(records(context=context))
    words = f"lexical:{file} reduction={reduction} leading_space={space}"
    found = measured(causal, tokenizer, words)["all", "accuracy"]
    scorer = CausalScorer(engine(causal), tokenizer)
    gap = " " if space == "space" else ""

    def score(word: str) -> float:
        whole = scorer.score([context + gap + word])
        n_context = len(tokenizer.encode(context))
        own = whole.per_token[0][n_context:]
        return float(own.sum()) / {"sum": 1, "mean": len(own), "characters": len(word)}[reduction]

    right = [float(score(word) > score(nonword)) for word, nonword in PAIRS]
    assert (found.value, found.n) == (pytest.approx(100 * np.mean(right)), len(PAIRS))


def test_the_three_reductions_differ_somewhere(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    file = write_jsonl(records())
    shares = {
        (reduction, space): measured(causal, tokenizer, f"lexical:{file} reduction={reduction} leading_space={space}")[
            "all", "accuracy"
        ].value
        for reduction in ("sum", "mean", "characters")
        for space in ("space", "as_is")
    }
    assert len(set(shares.values())) > 2, shares


def test_what_stands_before_is_not_counted(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    """Also where the first token of the context is not scored."""
    file = write_jsonl(records(context="The dog"))
    rows = [
        measured(causal, tokenizer, f"lexical:{file} reduction=mean first_token={policy}") for policy in ("bos", "none")
    ]
    scorer = CausalScorer(engine(causal), tokenizer, first_token="none")
    n_context = len(tokenizer.encode("The dog")) - 1
    means = [
        [float(scorer.score([f"The dog {word}"]).per_token[0][n_context:].mean()) for word in pair] for pair in PAIRS
    ]
    assert rows[1]["all", "accuracy"].value == pytest.approx(100 * np.mean([good > bad for good, bad in means]))


def test_controls_and_groups_are_those_of_pairs(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    lines = [{**record, "group": "even" if place % 2 == 0 else "odd"} for place, record in enumerate(records())]
    lines.append({"word": "same", "nonword": "same", "group": "odd"})
    found = measured(causal, tokenizer, f"lexical:{write_jsonl(lines)}")
    assert {f.value for (_, metric), f in found.items() if metric == "accuracy_constant"} == {50.0}
    assert found["all", "ties"].value == 1 and found["paradigm/even", "accuracy"].n == 4
    for control in ("unigram", "length", "untrained"):
        assert ("all", f"accuracy_{control}") in found
    assert ("all", "accuracy_over_words") not in found, "no word stands twice"
    lengths = [[len(tokenizer.encode(f" {text}")) for text in (line["word"], line["nonword"])] for line in lines]
    by_length = [1.0 if good < bad else 0.5 if good == bad else 0.0 for good, bad in lengths]
    assert found["all", "accuracy_length"].value == pytest.approx(
        100 * (np.mean(by_length[::2][:4]) + np.mean([*by_length[1::2]])) / 2
    )


def test_several_non_words_of_a_word_are_averaged_first(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    lines = [{"word": "one", "nonword": text} for text in ("eno", "oen", "neo", "no")] + records()[1:]
    found = measured(causal, tokenizer, f"lexical:{write_jsonl(lines)}")
    scorer = CausalScorer(engine(causal), tokenizer)
    shares: dict[str, list[float]] = {}
    for line in lines:
        good, bad = scorer.score([f" {line['word']}", f" {line['nonword']}"]).log_p
        shares.setdefault(line["word"], []).append(float(good > bad))
    figure = found["all", "accuracy_over_words"]
    assert (figure.value, figure.n) == (pytest.approx(100 * np.mean([np.mean(own) for own in shares.values()])), 7)


@pytest.mark.parametrize("policy", ["bos", "none"])
def test_masked_models_decide_too(
    masked: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path], policy: FirstToken
) -> None:
    file = write_jsonl(records(context="The cats"))
    found = measured(masked, tokenizer, f"lexical:{file} reduction=mean first_token={policy}")
    scorer = MaskedScorer(engine(masked), tokenizer, first_token=policy)
    n_context = len(tokenizer.encode("The cats"))
    means = [
        [float(scorer.score([f"The cats {word}"]).per_token[0][n_context:].mean()) for word in pair] for pair in PAIRS
    ]
    assert found["all", "accuracy"].value == pytest.approx(100 * np.mean([good > bad for good, bad in means]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"word": "one"}, "line 1 has no field 'nonword'"),
        ({"word": "one", "nonwrod": "eno"}, "did you mean 'nonwrod'"),
        ({"word": "one", "nonword": "eno", "context": 3}, "line 1 has a number as its 'context'"),
        ({"word": "", "nonword": "eno"}, "line 1 has an empty 'word'"),
    ],
)
def test_bad_files_are_named_by_line(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path], line: dict[str, object], message: str
) -> None:
    with pytest.raises(PicoLMError, match=message):
        measured(causal, tokenizer, f"lexical:{write_jsonl([line])}")
    with pytest.raises(PicoLMError, match="the task lexical needs a file: write lexical:PATH"):
        parse_task("lexical")


# Non-words.


def by_hand(words: list[str], order: int, text: str) -> float:
    """The probability of a string by counts of n-grams."""
    p = 1.0
    border = "^" * (order - 1)
    for place in range(len(text) + 1):
        grams = [
            (f"{border}{word}"[at : at + order - 1], (word + "$")[at]) for word in words for at in range(len(word) + 1)
        ]
        history, character = f"{border}{text}"[place : place + order - 1], (text + "$")[place]
        same = [gram for gram in grams if gram[0] == history]
        p *= sum(gram[1] == character for gram in same) / len(same) if same else 0.0
    return p


@given(st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=6), st.integers(1, 3))
def test_probabilities_of_strings_are_the_counts(words: list[str], order: int) -> None:
    model = CharacterNGrams(words, order)
    for length in range(4):
        strings = ["".join(one) for one in itertools.product("abc", repeat=length)]
        ps = [by_hand(words, order, text) for text in strings]
        assert model.mass(length) == pytest.approx(sum(ps), abs=1e-12)
        for text, p in zip(strings, ps, strict=True):
            assert math.exp(model.log_p(text)) == pytest.approx(p, abs=1e-12)


def test_strings_of_a_length_are_drawn_as_often_as_they_are_probable() -> None:
    words = ["aba", "abc", "bab", "cab", "ca", "abab"]
    model = CharacterNGrams(words, 2)
    random = generator(0, "test")
    drawn = Counter(model.draw(3, random) for _ in range(20_000))
    strings = ["".join(one) for one in itertools.product("abc", repeat=3)]
    wanted = {text: by_hand(words, 2, text) / model.mass(3) for text in strings}
    assert set(drawn) == {text for text, p in wanted.items() if p > 0}
    for text, p in wanted.items():
        assert drawn[text] / 20_000 == pytest.approx(p, abs=5 * math.sqrt(0.25 / 20_000))


def test_non_words_match_their_words_in_length_and_in_ngrams() -> None:
    matched, missed = match_nonwords(WORDS, order=2)
    assert not missed and [one.word for one in matched] == WORDS
    grams = {f"^{word}$"[at : at + 2] for word in WORDS for at in range(len(word) + 1)}
    model = CharacterNGrams(WORDS, 2)
    for one in matched:
        assert len(one.nonword) == len(one.word) and one.nonword not in WORDS
        assert {f"^{one.nonword}$"[at : at + 2] for at in range(len(one.nonword) + 1)} <= grams
        assert (one.log_p, one.nonword_log_p) == (model.log_p(one.word), model.log_p(one.nonword))
    assert len({one.nonword for one in matched}) == len(matched)
    few, _ = match_nonwords(WORDS, order=2, candidates=3)
    gaps = [np.mean([abs(one.log_p - one.nonword_log_p) for one in own]) for own in (matched, few)]
    assert gaps[0] < 0.5 * gaps[1], "of more strings a nearer one is found"


def test_non_words_are_keyed_and_new() -> None:
    first, _ = match_nonwords(WORDS, order=2)
    assert match_nonwords(WORDS, order=2)[0] == first
    assert match_nonwords(WORDS, order=2, seed=1)[0] != first
    taken = first[0].nonword.upper()
    again, _ = match_nonwords(WORDS, order=2, known=[taken])
    assert taken.lower() not in {one.nonword for one in again}


def test_non_words_can_have_as_many_tokens_as_their_words(tokenizer: Tokenizer) -> None:
    def count(text: str) -> int:
        return len(tokenizer.encode(f" {text}"))

    free, _ = match_nonwords(WORDS, order=2)
    assert any(count(one.word) != count(one.nonword) for one in free)
    matched, missed = match_nonwords(WORDS, order=2, n_tokens=count)
    assert [count(one.word) for one in matched] == [count(one.nonword) for one in matched]
    assert len(matched) + len(missed) == len(WORDS) and len(matched) > 5


def test_words_without_a_non_word_are_given_back() -> None:
    """Of one character there is only `q`; of five there is `babab` beside `ababa`."""
    matched, missed = match_nonwords(["abab", "baba", "ababa", "q"], order=3)
    assert [(one.word, one.nonword) for one in matched] == [("ababa", "babab")] and missed == ["abab", "baba", "q"]
    with pytest.raises(PicoLMError, match="no non-word was found for any of 2 words"):
        match_nonwords(["abc", "xyz"])
    with pytest.raises(PicoLMError, match="word 2 of the list is 'a b'"):
        match_nonwords(["abc", "a b"])
    with pytest.raises(PicoLMError, match="order=0"):
        match_nonwords(["abc"], order=0)


def test_what_is_written_is_what_the_task_reads(causal: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    words = ["каша", "каска", "маска", "ласка", "лама", "рама"]
    matched, _ = match_nonwords(words, order=2)
    file = tmp_path / "made" / "russian.jsonl"
    write_nonwords(file, matched, group="russian")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert lines == [{"word": one.word, "nonword": one.nonword, "group": "russian"} for one in matched]
    assert measured(causal, tokenizer, f"lexical:{file}")["paradigm/russian", "accuracy"].n == len(matched)
