"""Words: their surprisal adds up to that of their text, and with the correction their probabilities add up to one."""

import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

import picolm
from picolm.errors import PicoLMError
from picolm.evaluation.boundaries import beginnings, refuse_unmarked
from picolm.evaluation.controls import Unigram
from picolm.evaluation.frequencies import Frequencies
from picolm.evaluation.located import LocatedText, across_words, form_of, word_numbers, words_of
from picolm.evaluation.scoring import CausalScorer
from picolm.evaluation.task import Subject, parse_task
from picolm.evaluation.word_values import read_word_values
from picolm.model.transformer import Transformer
from picolm.runs.directory import RunDirectory
from picolm.text.tokenizer import Tokenizer

from .conftest import TEXTS, engine, material, tiny_model

ODD = ["  two  spaces\tand\n\ntabs", " one", "猫が 好き です 🙂", "🙂 👩‍👩‍👧 é\u0301", "x" * 50 + " y"]
Rows = list[dict[str, Any]]


def table_of(model: Transformer, tokenizer: Tokenizer, words: str, **changes: Any) -> Rows:
    task = parse_task(words)
    task.prepare(material(model, tokenizer, **changes))
    content = task.measure(Subject(engine(model))).files["words.parquet"]
    rows: Rows = pq.read_table(io.BytesIO(content)).to_pylist()
    return rows


def by_text(rows: Rows) -> list[Rows]:
    return [list(own) for _, own in itertools.groupby(rows, key=lambda row: row["text"])]


def log_p_at(model: Transformer, tokens: Sequence[int]) -> np.ndarray:
    """The whole distribution behind some tokens."""
    with torch.no_grad():
        logits = model.logits(model(torch.tensor([list(tokens)])))[0, -1]
    found: np.ndarray = logits.log_softmax(-1).numpy()
    return found


# Sums.


def test_surprisals_of_words_add_up_to_the_texts(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    texts = [*TEXTS, *ODD]
    rows = by_text(table_of(causal, tokenizer, f"words:{write_jsonl([{'text': text} for text in texts])}"))
    scores = CausalScorer(engine(causal), tokenizer).score(texts)
    for text, own, log_p in zip(texts, rows, scores.log_p, strict=True):
        assert [row["word"] for row in own] == text.split()
        assert sum(row["surprisal"] for row in own) == pytest.approx(-log_p, rel=1e-10)
        assert [row["context_length"] for row in own] == list(range(len(own)))
        assert [text[row["start"] : row["start"] + row["length"]] for row in own] == text.split()
        assert sum(row["tokens"] for row in own) == len(tokenizer.encode(text))


def test_a_word_is_the_difference_between_its_text_with_and_without_it(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    text = "unbelievably, one two three"
    (rows,) = by_text(table_of(causal, tokenizer, f"words:{write_jsonl([{'text': text}])}"))
    words = text.split()
    begun = [" ".join(words[:count]) for count in range(1, len(words) + 1)]
    sums = [0.0, *CausalScorer(engine(causal), tokenizer).score(begun).log_p]
    np.testing.assert_allclose([row["surprisal"] for row in rows], -np.diff(sums), rtol=1e-9)


def test_space_behind_the_last_word_belongs_to_none(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    rows = table_of(causal, tokenizer, f"words:{write_jsonl([{'text': 'one two'}, {'text': f'one two {chr(10)} '}])}")
    bare, ended = ([row["surprisal"] for row in own] for own in by_text(rows))
    np.testing.assert_allclose(bare, ended, rtol=1e-12)


def test_each_token_of_a_long_text_is_scored_once(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    text = " ".join(TEXTS[5:7] * 3)
    file = write_jsonl([{"text": text}])
    rows = table_of(causal, tokenizer, f"words:{file} window=20 stride=7")
    task = parse_task(f"perplexity:{file} window=20 stride=7")
    task.prepare(material(causal, tokenizer))
    loss = next(figure for figure in task.measure(Subject(engine(causal))).figures if figure.metric == "loss")
    assert loss.n > 60
    assert sum(row["surprisal"] for row in rows) == pytest.approx(loss.value * loss.n, rel=1e-10)


def test_a_first_word_whose_first_token_is_not_scored_has_no_surprisal(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    file = write_jsonl([{"text": "one two three"}])
    for correction in ("false", "true"):
        rows = table_of(causal, tokenizer, f"words:{file} first_token=none bow_correction={correction}")
        assert [row["surprisal"] is None for row in rows] == [True, False, False]


# The correction.


@pytest.fixture(scope="module")
def small() -> tuple[Transformer, Tokenizer]:
    """A vocabulary of three characters, of which a space begins words, and four special tokens."""
    tokenizer = Tokenizer.characters(["ab "])
    return tiny_model(tokenizer).double(), tokenizer


def test_only_spaces_and_the_end_of_a_text_begin_words(small: tuple[Transformer, Tokenizer]) -> None:
    _, tokenizer = small
    (space,) = tokenizer.encode(" ").tolist()
    assert np.flatnonzero(beginnings(tokenizer)).tolist() == sorted([tokenizer.separator_id, space])


def test_beginnings_are_the_tokens_that_stand_there_in_texts(tokenizer: Tokenizer) -> None:
    begins = beginnings(tokenizer)
    seen = set()
    for text in [*TEXTS, ODD[0]]:
        for token, (start, stop) in zip(*tokenizer.encode_spans([text])[0], strict=True):
            assert begins[token] == text[start:stop][:1].isspace(), text[start:stop]
            seen.add(bool(begins[token]))
    assert seen == {True, False}


def test_beginnings_are_found_in_other_peoples_tokenizers() -> None:
    """SentencePiece's kind writes the space as a letter of its own, and the end of a line as it is."""
    inner = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = [AddedToken(token, special=True, normalized=False) for token in ("</s>", "<unk>")]
    inner.train_from_iterator(TEXTS, trainers.BpeTrainer(special_tokens=special, vocab_size=150, show_progress=False))
    tokenizer = Tokenizer(inner, "</s>")
    vocabulary: dict[str, int] = json.loads(tokenizer.to_json())["model"]["vocab"]
    wanted = {id for token, id in vocabulary.items() if token[0] in "▁\n"} | {tokenizer.separator_id}
    assert set(np.flatnonzero(beginnings(tokenizer)).tolist()) == wanted and len(wanted) > 20
    for text in TEXTS[:2]:
        ids, spans = tokenizer.encode_spans([text])[0]
        refuse_unmarked(LocatedText(ids, "", None, 0, "x", text, spans, words_of(text)), beginnings(tokenizer))


@pytest.mark.parametrize("context", ["", "ab", "a b"])
def test_corrected_probabilities_add_up_to_one(
    small: tuple[Transformer, Tokenizer], write_jsonl: Callable[..., Path], context: str
) -> None:
    """All words of up to three tokens by brute force, the end of the text, and what goes on for longer."""
    model, tokenizer = small
    begins = beginnings(tokenizer)
    before = [tokenizer.separator_id, *tokenizer.encode(context).tolist()]
    is_first = not context
    others = np.flatnonzero(~begins).tolist()
    # The first word of a text begins with any token, the others with one that begins words.
    starts = range(tokenizer.vocab_size) if is_first else np.flatnonzero(begins).tolist()
    known: dict[tuple[int, ...], float] = {}
    total = 0.0
    here = log_p_at(model, before)
    mass = 0.0 if is_first else float(np.logaddexp.reduce(here[begins]))
    for start in starts:
        if start == tokenizer.separator_id:
            total += math.exp(here[start] - mass)
            continue
        for length in range(4):
            for rest in itertools.product(others, repeat=length):
                tokens, log_p = [*before], -mass
                for token in (start, *rest):
                    log_p += log_p_at(model, tokens)[token]
                    tokens.append(token)
                ends = float(np.logaddexp.reduce(log_p_at(model, tokens)[begins]))
                if length < 3:
                    known[start, *rest] = log_p + ends
                    total += math.exp(log_p + ends)
                else:
                    # These, and all that begins with them.
                    total += math.exp(log_p)
    assert total == pytest.approx(1, abs=1e-10)
    words = [word for word in ("a", "b", "ab", "ba", "bb") if is_first or len(word) < 3]
    gap = "" if is_first else " "
    file = write_jsonl([{"text": context + gap + word} for word in words])
    rows = by_text(table_of(model, tokenizer, f"words:{file} bow_correction=true"))
    for word, own in zip(words, rows, strict=True):
        wanted = known[tuple(tokenizer.encode(gap + word).tolist())]
        assert own[-1]["word"] == word and own[-1]["surprisal"] == pytest.approx(-wanted, rel=1e-9)


def test_of_several_spaces_each_is_read_once(
    small: tuple[Transformer, Tokenizer], write_jsonl: Callable[..., Path]
) -> None:
    """The two spaces before `a` are each of B; between them nothing is added that is not taken off again."""
    model, tokenizer = small
    begins = beginnings(tokenizer)
    rows = table_of(model, tokenizer, f"words:{write_jsonl([{'text': 'b  a'}])} bow_correction=true")
    tokens = [tokenizer.separator_id, *tokenizer.encode("b  a").tolist()]
    behind = [log_p_at(model, tokens[:count]) for count in range(1, len(tokens) + 1)]
    log_p = sum(behind[place - 1][tokens[place]] for place in (2, 3, 4))
    wanted = log_p + np.logaddexp.reduce(behind[4][begins]) - np.logaddexp.reduce(behind[1][begins])
    assert rows[1]["surprisal"] == pytest.approx(-wanted, rel=1e-10)


def test_corrections_of_a_text_cancel_but_for_its_end(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    texts = [*TEXTS, ODD[0], ODD[1]]
    file = write_jsonl([{"text": text} for text in texts])
    rows = by_text(table_of(causal, tokenizer, f"words:{file} bow_correction=true window=95"))
    scores = CausalScorer(engine(causal), tokenizer).score(texts)
    begins = beginnings(tokenizer)
    for text, own, log_p in zip(texts, rows, scores.log_p, strict=True):
        end = log_p_at(causal, [tokenizer.separator_id, *tokenizer.encode(text).tolist()])[begins]
        wanted = -log_p - np.logaddexp.reduce(end)
        assert sum(row["surprisal"] for row in own) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one\u00a0two", "does not mark words as bow_correction needs it"),
        ("全角　空白", "does not mark words"),
        ("one\u2028two", "does not mark words"),
    ],
)
def test_spaces_that_begin_no_token_are_refused(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path], text: str, message: str
) -> None:
    file = write_jsonl([{"text": "one two"}, {"text": text, "id": "odd"}])
    with pytest.raises(PicoLMError, match=message) as error:
        table_of(causal, tokenizer, f"words:{file} bow_correction=true")
    assert "the text 'odd': the token" in str(error.value)
    assert len(table_of(causal, tokenizer, f"words:{file}")) == 4, "without the correction they are words"


def test_a_tokenizer_without_spaces_has_no_correction(causal: Transformer, write_jsonl: Callable[..., Path]) -> None:
    tokenizer = Tokenizer.characters(["abc"])
    with pytest.raises(PicoLMError, match="needs a tokenizer whose tokens begin with the space"):
        table_of(causal, tokenizer, f"words:{write_jsonl([{'text': 'abc'}])} bow_correction=true")


# Words.


def test_words_of_a_language_without_spaces_are_listed(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    record = {"text": "猫が好きです 🙂", "words": ["猫", "が", "好き", "です"]}
    rows = table_of(causal, tokenizer, f"words:{write_jsonl([record])} words_field=words")
    assert [row["word"] for row in rows] == record["words"] and [row["form"] for row in rows] == record["words"]
    whole = CausalScorer(engine(causal), tokenizer).score([str(record["text"])])
    counts = np.cumsum([row["tokens"] for row in rows])
    by_hand = -np.add.reduceat(whole.per_token[0], [0, *counts[:-1]])[:3]
    assert not any(row["across"] for row in rows)
    np.testing.assert_allclose([row["surprisal"] for row in rows][:3], by_hand, rtol=1e-10)


def test_a_token_that_reaches_over_words_belongs_to_the_first(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    """`one` is one token; who calls `o` and `ne` words gets its surprisal for the first, and nothing for the other."""
    assert tokenizer.encode_spans(["two one"])[0][1][-1].tolist() == [4, 7]
    record = {"text": "two one", "words": ["two", "o", "ne"]}
    rows = table_of(causal, tokenizer, f"words:{write_jsonl([record])} words_field=words")
    assert [row["across"] for row in rows] == [False, True, False]
    assert [row["tokens"] for row in rows][1:] == [2, 0] and rows[2]["surprisal"] is None
    with pytest.raises(PicoLMError, match="the token 'one' at character 4 reaches over words"):
        table_of(causal, tokenizer, f"words:{write_jsonl([record])} words_field=words bow_correction=true")


@given(st.text(alphabet="ab \n\t\u3000猫🙂é.", max_size=30))
def test_tokens_belong_to_the_word_that_holds_their_first_letter(text: str) -> None:
    """Whatever white space there is, and whichever way tokens cut a text: here each is one character, or two."""
    words = words_of(text)
    assert [text[start:stop] for start, stop in words.tolist()] == text.split()
    for size in (1, 2):
        spans = np.array([(at, min(at + size, len(text))) for at in range(0, len(text), size)], np.int32).reshape(-1, 2)
        numbers, across = word_numbers(spans, words), across_words(spans, words)
        for (start, stop), number, reaches in zip(spans.tolist(), numbers.tolist(), across.tolist(), strict=True):
            after = [place for place, (_, end) in enumerate(words.tolist()) if end > start]
            assert number == (after[0] if after else len(words))
            touched = [place for place, (begin, end) in enumerate(words.tolist()) if begin < stop and end > start]
            assert reaches == (len(touched) > 1 or bool(touched and touched[0] != number))


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("“Dogs,”", "dogs"),
        ("dog's", "dog's"),
        ("--", ""),
        ("🙂", ""),
        ("Éa\u0301", "éa\u0301"),
        ("3rd.", "3rd"),
        ("", ""),
    ],
)
def test_forms(word: str, form: str) -> None:
    assert form_of(word) == form


# Frequencies.


def test_frequencies_and_unigrams_are_of_the_training_texts(trained: RunDirectory, tmp_path: Path) -> None:
    from picolm.data.prepared import TokenData

    picolm.evaluate(trained.path, ["words"], out=tmp_path)
    (file,) = (tmp_path / "files").glob("*.words.parquet")
    rows: Rows = pq.read_table(file).to_pylist()
    split = TokenData.open(trained.identity["data"]["directory"], verify="sizes").split("train")
    _, tokenizer = picolm.open_model(trained.checkpoint_path(8))
    spans = [split.document_span(document) for document in range(split.n_documents)]
    counts = Counter(word for start, stop in spans for word in tokenizer.decode(split.tokens(start, stop - 1)).split())
    unigram = Unigram.of_training(split, tokenizer.vocab_size)
    assert len(rows) > 100 and len(counts) == 13
    for row in rows[:60]:
        wanted = math.log((counts[row["form"]] + 1) / (counts.total() + len(counts)))
        assert row["log_frequency"] == pytest.approx(wanted, rel=1e-12)
    (first,) = tokenizer.encode_batch([rows[0]["word"]])
    assert rows[0]["unigram"] == pytest.approx(-float(unigram.score([first])[0]))


def test_frequencies_can_come_from_a_list(
    causal: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    listed = tmp_path / "subtlex.tsv"
    listed.write_text("Word\tFREQcount\nOne\t7\none\t2\ntwo\t1\n-\t99\nthree\tNA\n")
    file = write_jsonl([{"text": "One, two four --"}])
    settings = f"frequencies={listed} frequencies_word=Word frequencies_count=FREQcount"
    rows = table_of(causal, tokenizer, f"words:{file} {settings}")
    wanted = [math.log((count + 1) / (10 + 2)) for count in (9, 1, 0)]
    np.testing.assert_allclose([row["log_frequency"] for row in rows][:3], wanted)
    assert rows[3]["form"] == "" and rows[3]["log_frequency"] is None and rows[0]["unigram"] is None
    without = table_of(causal, tokenizer, f"words:{file}")
    assert {row["log_frequency"] for row in without} == {None}
    listed.write_text("Word\tFREQcount\none\t-1\n")
    with pytest.raises(PicoLMError, match="has the count -1 for 'one'"):
        Frequencies.of_file(listed, "Word", "FREQcount")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"word": "x"}', "line 1 has no field 'age'"),
        ("a.jsonl", b'{"word": "x", "age": "old"}', "line 1 has 'old' as its 'age', which must be a number"),
        ("a.jsonl", b'{"word": "x", "age": true}', "line 1 has a boolean as its 'age'"),
        ("a.jsonl", b'{"word": 3, "age": 3}', "line 1 has a number in its 'word'"),
        ("a.jsonl", b'{"word": "x", "age": null}', "has no word with a 'age'"),
        ("a.jsonl", b"", "is empty: it has no words"),
        ("a.csv", b"wrod,age\nx,3\n", "line 2 has no field 'word'; did you mean 'wrod'"),
        ("a.csv", b"word,age\nx,3,4\n", "line 2 has 3 cells, where the first line names 2"),
        ("a.tsv", b"word\tage\nx\t\xe93\n", "line 2: byte 0xe9"),
        ("a.csv", b'word,age\n"x,3\n', "line 2 is no row of a table"),
        ("a.csv", b"word,age\n" + b"x" * 1_000_000 + b",3\n", "line 2 is no row of a table"),
        ("a.csv", b"word,age\nx,inf\n", "line 2 has 'inf' as its 'age'"),
    ],
)
def test_bad_lists_are_named_by_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(PicoLMError) as error:
        read_word_values(file, "word", "age")
    assert str(file) in str(error.value) and message in str(error.value)


def test_mistakes_are_named(
    causal: Transformer, masked: Transformer, tokenizer: Tokenizer, write_jsonl: Callable[..., Path]
) -> None:
    file = write_jsonl([{"text": "one two", "words": ["two", "one"], "id": "x"}])
    for settings, message in [
        ("words_field=wrods", "the document 'x' has nothing as its 'wrods', which must be a list"),
        ("words_field=words", "the document 'x' has the word 'one', which its text does not hold"),
        ("frequencies=none.tsv", "there is no file of words 'none.tsv'"),
    ]:
        with pytest.raises(PicoLMError, match=message):
            table_of(causal, tokenizer, f"words:{file} {settings}")
    with pytest.raises(PicoLMError, match="masked model, which has no surprisal"):
        table_of(masked, tokenizer, f"words:{file}")
    with pytest.raises(PicoLMError, match="words_field=words needs a source"):
        table_of(causal, tokenizer, "words words_field=words")


def test_figures_are_means_over_words(trained: RunDirectory, tmp_path: Path) -> None:
    rows = picolm.evaluate(trained.path, ["words"], checkpoints=[0, 8], out=tmp_path)
    for step in (0, 8):
        (file,) = (tmp_path / "files").glob(f"step-{step:08d}.*.words.parquet")
        table: Rows = pq.read_table(file).to_pylist()
        for subset in ("all", "domain/up"):
            own = [one["surprisal"] for one in table if subset in ("all", f"domain/{one['domain']}")]
            (row,) = [row for row in rows if (row.step, row.subset, row.metric) == (step, subset, "surprisal")]
            assert (row.value, row.n) == (pytest.approx(np.mean(own)), len(own)) and row.se is not None
    beside = json.loads(next(tmp_path.glob("step-00000008.*.json")).read_text())
    assert beside["identity"]["frequencies_of"][0] == "the run's training texts"
