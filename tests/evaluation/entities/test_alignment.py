from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.evaluation.entities.alignment import Placed, examples_of, pieces, place_words, tokens_of_words
from picolm.evaluation.task import Material
from picolm.text.tokenizer import Tokenizer

from ..conftest import TEXTS

# Combining marks, zero width, Chinese (a token of several characters, a character of several tokens), joined emoji.
PIECES_OF_WORDS = [
    *("a", "Juan", "si", ".", "'s", "naïve", "é", "e\u0301", "\u0301", "\u200b", "\u200d", "\ufeff"),
    *("猫", "が", "好き", "です", "人工", "👩\u200d👩\u200d👧", "🙂", "🇵🇭", "\xa0", "№", "ﬁ", "x" * 40),
]
WORD = st.lists(st.sampled_from(PIECES_OF_WORDS), min_size=1, max_size=3).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4
)
WORDS = st.lists(WORD, min_size=1, max_size=12)
SPACES = st.sampled_from(["", " ", "  ", "\xa0", "\u3000", "\t "])

BPE = Tokenizer.train_bpe([*TEXTS * 3, "猫が好きです人工人工人工 🙂🙂🙂 Juan. si Juan. si Juan's"] * 3, 420)


def material_of(tokenizer: Tokenizer, window: int, *, is_causal: bool) -> Material:
    values: dict[str, Any] = dict.fromkeys(("training", "held_out", "untrained"), lambda: None)
    return Material("x", tokenizer, tokenizer.separator_id, window, is_causal, **values, untrained_seed=0)


def tokens_by_brute_force(words: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> list[list[int]]:
    return [
        [place for place, (start, stop) in enumerate(offsets) if set(range(start, stop)) & set(range(*word))]
        for word in words
    ]


@given(WORDS, st.data())
def test_words_are_found_in_a_text_that_they_make_up(words: list[str], data: st.DataObject) -> None:
    text = data.draw(SPACES) + "".join(word + data.draw(SPACES) for word in words)
    placed, is_own = place_words(words, text)
    assert [placed.text[start:stop] for start, stop in placed.spans.tolist()] == words
    # Words that begin or end with white space can be found elsewhere than where they stood; then they are joined.
    if not any(word != word.strip() for word in words):
        assert is_own and placed.text == text
        outside = np.ones(len(text), dtype=bool)
        for start, stop in placed.spans.tolist():
            outside[start:stop] = False
        assert "".join(np.array(list(text))[outside]).strip() == ""


@pytest.mark.parametrize(
    "text", [None, "the cat is", "the cat sat on", "a the cat sat", "thecat", "sat the cat", "the cat", ""]
)
def test_a_text_that_is_not_the_words_gives_way_to_the_words_joined(text: str | None) -> None:
    placed, is_own = place_words(["the", "cat", "sat"], text)
    assert placed.text == "the cat sat" and not is_own
    assert placed.spans.tolist() == [[0, 3], [4, 7], [8, 11]]


def test_words_that_stand_side_by_side_in_the_text_are_read_so() -> None:
    placed, is_own = place_words(["ca", "n't", "猫", "が", "."], "can't 猫が.")
    assert is_own and placed.spans.tolist() == [[0, 2], [2, 5], [6, 7], [7, 8], [8, 9]]


@given(WORDS)
def test_a_word_owns_the_tokens_that_share_a_character_with_it(words: list[str]) -> None:
    for tokenizer in (BPE, Tokenizer.characters(words)):
        placed, _ = place_words(words, None)
        ((_, offsets),) = tokenizer.encode_spans([placed.text])
        firsts, lasts = tokens_of_words(placed.spans, offsets)
        expected = tokens_by_brute_force(placed.spans.tolist(), offsets.tolist())
        for own, first, last in zip(expected, firsts, lasts, strict=True):
            assert own and (first, last) == (own[0], own[-1])


def test_a_token_that_two_words_share_belongs_to_both() -> None:
    placed, _ = place_words(["人", "工"], "人工")
    firsts, lasts = tokens_of_words(placed.spans, np.array([[0, 2]], dtype=np.int32))
    assert firsts.tolist() == [0, 0] and lasts.tolist() == [0, 0]
    # Bytes of the second character merged with the last byte of the first.
    firsts, lasts = tokens_of_words(placed.spans, np.array([[0, 1], [0, 2], [1, 2]], dtype=np.int32))
    assert (firsts.tolist(), lasts.tolist()) == ([0, 1], [1, 2])


def test_a_word_without_a_token_is_read_at_the_token_before_it() -> None:
    spans = np.array([[0, 1], [2, 3], [4, 5]])
    firsts, lasts = tokens_of_words(spans, np.array([[2, 3]], dtype=np.int32))
    assert firsts.tolist() == lasts.tolist() == [-1, 0, 0]
    firsts, lasts = tokens_of_words(spans, np.empty((0, 2), dtype=np.int32))
    assert firsts.tolist() == lasts.tolist() == [-1, -1, -1]


def test_word_forms_are_those_of_pretraining() -> None:
    """` Juan` inside a sentence is another token than `Juan`; words tokenized one by one would all be the latter."""
    inside, alone = BPE.encode(" Juan"), BPE.encode("Juan")
    assert len(inside) == 1 and inside.tolist() != alone.tolist()
    placed, _ = place_words(["si", "Juan", "."], "si Juan.")
    (example,) = examples_of([placed], [np.zeros(3, dtype=np.int64)], material_of(BPE, 64, is_causal=True))
    (piece,) = example.pieces
    assert piece.tokens.tolist() == [BPE.separator_id, *BPE.encode("si Juan.").tolist()]
    first, last = piece.firsts[1], piece.lasts[1]
    assert piece.tokens[first : last + 1].tolist() == inside.tolist()


@given(WORDS, st.integers(1, 40), st.booleans())
def test_every_word_is_read_once_at_its_own_tokens(words: list[str], window: int, is_causal: bool) -> None:
    placed, _ = place_words(words, None)
    labels = np.arange(len(words))
    material = material_of(BPE, window, is_causal=is_causal)
    (example,) = examples_of([placed], [labels], material)
    assert example.labels is labels
    units = np.concatenate([piece.units for piece in example.pieces])
    assert sorted(units.tolist()) == list(range(len(words)))
    ((ids, offsets),) = BPE.encode_spans([placed.text])
    tokens = [material.bos, *ids.tolist(), *([] if is_causal else [material.bos])]
    expected = tokens_by_brute_force(placed.spans.tolist(), offsets.tolist())
    for piece in example.pieces:
        assert 1 <= len(piece.tokens) <= window and len(piece.units)
        begins = [at for at in range(len(tokens)) if tokens[at : at + len(piece.tokens)] == piece.tokens.tolist()]
        assert begins, "a piece is a stretch of the sentence"
        for unit, first, last in zip(piece.units, piece.firsts, piece.lasts, strict=True):
            assert 0 <= first <= last < len(piece.tokens)
            own = [tokens[1 + place] for place in expected[unit]]
            read = piece.tokens[first : last + 1].tolist()
            if len(own) <= window // 2 or len(tokens) <= window:
                assert read == own, "all of a word that is not longer than half a window"
            elif is_causal:
                assert read == own[-len(read) :], "of longer ones the end, which a causal model is read at"


@given(st.integers(2, 60), st.integers(1, 30), st.data())
def test_the_context_is_as_long_as_it_can_be(n_words: int, window: int, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, max(1, window // 2)), min_size=n_words, max_size=n_words))
    ends = 1 + np.cumsum(lengths)
    firsts, lasts = ends - lengths, ends - 1
    tokens = np.arange(ends[-1])
    found = pieces(tokens, firsts, lasts, window=window, is_causal=True)
    for piece in found:
        begin = piece.tokens[0]
        np.testing.assert_array_equal(piece.firsts + begin, firsts[piece.units])
        np.testing.assert_array_equal(piece.lasts + begin, lasts[piece.units])
        for unit, first in zip(piece.units, piece.firsts, strict=True):
            assert begin == 0 or first >= window - window // 2 - lengths[unit], "half a window but for the word"
            assert not any(  # earlier pieces have no room for it
                other.tokens[0] < begin and lasts[unit] <= other.tokens[-1] for other in found
            )


def test_a_masked_model_reads_a_word_where_its_shorter_context_is_longest() -> None:
    tokens = np.arange(20)
    places = np.arange(20)
    found = pieces(tokens, places, places, window=8, is_causal=False)
    owner = {int(unit): int(piece.tokens[0]) for piece in found for unit in piece.units}
    begins = [0, 4, 8, 12]
    for unit, begin in owner.items():
        context = {
            at: min(99 if at == 0 else unit - at, 99 if at == 12 else at + 7 - unit)
            for at in begins
            if at <= unit < at + 8
        }
        assert context[begin] == max(context.values())


def test_chinese_words_round_trip() -> None:
    words = ["人工", "智能", "在", "北京", "大学", "。"]
    placed, is_own = place_words(words, "".join(words))
    assert is_own
    ((ids, offsets),) = BPE.encode_spans([placed.text])
    firsts, lasts = tokens_of_words(placed.spans, offsets)
    for word, first, last in zip(words, firsts, lasts, strict=True):
        start, stop = offsets[first][0], offsets[last][1]
        assert word in placed.text[start:stop]
    assert set(np.concatenate([np.arange(a, b + 1) for a, b in zip(firsts, lasts, strict=True)])) == set(
        range(len(ids))
    )


def test_a_placed_word_of_a_megabyte_is_read_at_its_end() -> None:
    word = "x" * 1_000_000
    characters = Tokenizer.characters(["xy "])
    spans = np.array([[0, len(word)], [len(word) + 1, len(word) + 2]])
    (example,) = examples_of(
        [Placed(f"{word} y", spans)], [np.zeros(2, dtype=np.int64)], material_of(characters, 64, is_causal=True)
    )
    assert sum(len(piece.units) for piece in example.pieces) == 2
    assert all(len(piece.tokens) == 64 for piece in example.pieces) and len(example.pieces) <= 2
