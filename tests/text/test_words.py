"""The table of words gives what the library gives: for every character of its alphabets, and for texts of any kind."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers

from picolm.text import words
from picolm.text.tokenizer import Tokenizer
from picolm.text.words import ALPHABETS, WordTable

TEXTS = [path.read_text(encoding="utf-8") for path in sorted(Path(words.__file__).parent.glob("*.py"))]
TRAINED = Tokenizer.train_bpe([*TEXTS, "Ünïcödé, “quoted” \u2013 it's we'll  где\n\nждёшь ½ x²"], 600)
INNER = tokenizers.Tokenizer.from_str(TRAINED.to_json())
INNER.encode_special_tokens = True

CHARACTERS = [chr(code) for alphabet in ALPHABETS for code in alphabet]


def plain(text: str) -> list[int]:
    ids: list[int] = INNER.encode(text, add_special_tokens=False).ids
    return ids


@pytest.fixture(scope="module")
def table() -> WordTable:
    made = WordTable.of(INNER)
    assert made is not None
    return made


@pytest.mark.parametrize("form", ["{0}", "a{0}b", "1{0}2", ".{0},", " {0} {0}{0}  {0}", "\n{0}\n \n{0}a", "'{0}s's{0}"])
def test_every_character_of_the_alphabets_is_cut_as_the_library_cuts(table: WordTable, form: str) -> None:
    splitter = INNER.pre_tokenizer
    for character in CHARACTERS:
        text = form.format(character)
        pieces = [text[start:stop] for _, (start, stop) in splitter.pre_tokenize_str(text)]
        assert words._WORD.findall(text) == pieces, f"U+{ord(character):04X}"


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(st.sampled_from(CHARACTERS), max_size=6),
            st.text(st.sampled_from(" \n\t'sdtmrevl1a,\xa0"), max_size=12),
            st.text(max_size=4),
            st.sampled_from(["<eos>", "it's", "  ", "日本"]),
        ),
        max_size=10,
    )
)
def test_texts_of_any_kind_have_the_same_ids(parts: list[str]) -> None:
    text = "".join(parts)
    (found,) = TRAINED.encode_batch([text])
    assert found.dtype == np.int64
    assert found.tolist() == plain(text)


def test_texts_of_other_alphabets_are_left_to_the_library(table: WordTable) -> None:
    assert table.encode("plain “text”") is not None
    assert table.encode("日本") is None
    assert [ids.tolist() for ids in TRAINED.encode_batch(["a", "日本", "", "b"])] == [
        plain("a"),
        plain("日本"),
        [],
        plain("b"),
    ]


def test_a_full_table_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_LARGEST_TABLE", 5)
    table = WordTable.of(INNER)
    assert table is not None
    for text in TEXTS[:3]:
        found = table.encode(text)
        assert found is not None
        assert found.tolist() == plain(text)
        assert len(table) <= 5


def test_tokenizers_that_work_otherwise_have_no_table() -> None:
    def changed(change: object) -> tokenizers.Tokenizer:
        other = tokenizers.Tokenizer.from_str(json.dumps(json.loads(INNER.to_str())))
        change(other)  # type: ignore[operator]
        return other

    def prefixed(other: tokenizers.Tokenizer) -> None:
        other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)

    def normalized(other: tokenizers.Tokenizer) -> None:
        other.normalizer = normalizers.Lowercase()

    def added(other: tokenizers.Tokenizer) -> None:
        other.add_tokens(["twowords"])

    def sloppy(other: tokenizers.Tokenizer) -> None:
        other.model.dropout = 0.1

    assert WordTable.of(changed(lambda _: None)) is not None
    for change in (prefixed, normalized, added, sloppy):
        assert WordTable.of(changed(change)) is None
    assert WordTable.of(tokenizers.Tokenizer(models.BPE())) is None
