"""Which tokens begin a word, for the kinds of tokenizers that mark it in different ways."""

from __future__ import annotations

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from picolm.text.tokenizer import Tokenizer
from picolm.text.word_beginnings import word_beginnings

TEXT = ["the cat saw the other cat, 12 times. seeing is seeing"] * 5


def begins(tokenizer: Tokenizer) -> set[str]:
    return {tokenizer.decode([int(token)]) for token in np.flatnonzero(word_beginnings(tokenizer))}


def test_of_bytes_those_with_a_space_before_letters() -> None:
    tokenizer = Tokenizer.train_bpe(TEXT, 300)
    found = begins(tokenizer)
    assert {" the", " cat"} <= found
    assert all(text[0] == " " and text[1].isalpha() for text in found)
    assert not word_beginnings(tokenizer)[sorted(tokenizer.special_ids)].any()


@pytest.mark.parametrize(
    ("vocabulary", "pre", "decoder", "wanted"),
    [
        (["\u2581the", "ing", "\u2581", "\u2581see", ",", "\u258112"], pre_tokenizers.Metaspace(), decoders.Metaspace(),
         {"the", "see"}),
        (["the", "##ing", "see", ",", "12"], pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(), {"the", "see"}),
    ],
)  # fmt: skip
def test_of_other_marks_too(
    vocabulary: list[str], pre: pre_tokenizers.PreTokenizer, decoder: decoders.Decoder, wanted: set[str]
) -> None:
    inner = tokenizers.Tokenizer(
        models.WordPiece({token: id for id, token in enumerate(["<s>", *vocabulary])}, unk_token="<s>")
    )
    inner.pre_tokenizer, inner.decoder = pre, decoder
    inner.add_special_tokens(["<s>"])
    assert {text.strip() for text in begins(Tokenizer(inner, "<s>"))} == wanted


def test_of_characters_none() -> None:
    assert not word_beginnings(Tokenizer.characters(TEXT)).any()
