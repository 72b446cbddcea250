"""From words to tokens: a sentence is read as the text that it is, and each word finds its tokens by its characters.

Words are never tokenized one by one. Byte-level tokenizers write the space before a word into its first token, so that
`Juan` alone is another token than the ` Juan` that pretraining saw; and where no space parts words, as before a full
stop or in Chinese, one token may span two of them. So the text is tokenized whole: that of the `# text` comment where
it consists of the words with nothing but white space between them, else the words joined by spaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from picolm.evaluation.batching import IntArray
from picolm.evaluation.readout import Example, Piece
from picolm.evaluation.task import Material

_TEXTS_AT_ONCE = 4096


class Placed(NamedTuple):
    """A text and the words in it."""

    text: str
    spans: IntArray
    """Characters of each word, [W, 2] (start, stop)."""


def place_words(words: Sequence[str], text: str | None) -> tuple[Placed, bool]:
    """Find words in their text, each behind the one before.

    Args:
        words: one at least.
        text: the text, if it is known.

    Returns:
        The text with the places of the words, and whether it is `text` itself: where words and white space do not make
        up all of that, it is the words joined by spaces.
    """
    spans = None if text is None else _spans(words, text)
    if text is not None and spans is not None:
        return Placed(text, spans), True
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    starts = ends - [len(word) for word in words]
    return Placed(" ".join(words), np.stack([starts, ends], axis=1)), False


def _spans(words: Sequence[str], text: str) -> IntArray | None:
    spans, position = [], 0
    for word in words:
        while not text.startswith(word, position):
            if not text[position : position + 1].isspace():
                return None
            position += 1
        spans.append((position, position + len(word)))
        position += len(word)
    return np.array(spans, dtype=np.int64) if not text[position:].strip() else None


def tokens_of_words(spans: IntArray, offsets: npt.NDArray[np.int32]) -> tuple[IntArray, IntArray]:
    """The first and the last token of each word: those that have a character with it in common.

    A token that two words share belongs to both. A word without a token (a normalizer dropped its characters) is read
    at the token before it.

    Args:
        spans: characters of words, in order, [W, 2].
        offsets: characters of tokens, in order, [T, 2], as from `Tokenizer.encode_spans`.

    Returns:
        Two arrays [W]; -1 is what stands before the first token.
    """
    starts, stops = np.maximum.accumulate(offsets, axis=0).T
    lasts = np.searchsorted(starts, spans[:, 1], side="left") - 1
    firsts = np.searchsorted(stops, spans[:, 0], side="right")
    return np.minimum(firsts, lasts), lasts


def pieces(tokens: IntArray, firsts: IntArray, lasts: IntArray, *, window: int, is_causal: bool) -> tuple[Piece, ...]:
    """Part a sentence into what a model reads at once; each word is read in exactly one piece.

    Pieces begin half a window apart, the last one ends with the sentence. A causal model reads a word in the first
    piece that holds all of it: there most stands before it, half a window at least but for the word itself. A masked
    model reads it where the shorter one of its two contexts is longest. Of a word for which a piece has no room, what
    has room counts.

    Args:
        tokens: of the sentence, with what it stands behind and between, [T].
        firsts: place of the first token of each word, [W].
        lasts: that of the last, [W].
        window: positions that the model reads at once.
        is_causal: whether it reads from left to right.
    """
    end = len(tokens)
    if end <= window:
        return (Piece(tokens, np.arange(len(firsts)), firsts, lasts),)
    begins = np.append(np.arange(0, end - window, max(1, window // 2)), end - window)
    # [W, pieces]; at the edges of the sentence no context is missing.
    left = np.where(begins == 0, end, firsts[:, None] - begins)
    right = np.where(begins == end - window, end, begins + window - 1 - lasts[:, None])
    owners = (right >= 0 if is_causal else np.minimum(left, right)).argmax(axis=1)
    found = []
    for number in np.unique(owners):
        begin, units = begins[number], np.flatnonzero(owners == number)
        inside = [np.clip(places[units] - begin, 0, window - 1) for places in (firsts, lasts)]
        found.append(Piece(tokens[begin : begin + window], units, *inside))
    return tuple(found)


def examples_of(placed: Sequence[Placed], labels: Sequence[IntArray], material: Material) -> list[Example]:
    """Encode sentences, each behind the token that begins a text, for a masked model before another one.

    Args:
        placed: texts and the places of their words.
        labels: of the words of each, [W].
        material: the target's tokenizer, window and kind.

    Returns:
        An example for each sentence, whose units are its words.

    Raises:
        PicoLMError: the tokenizer cannot encode a text.
    """
    closing = [] if material.is_causal else [material.bos]
    found = []
    for begin in range(0, len(placed), _TEXTS_AT_ONCE):
        some = placed[begin : begin + _TEXTS_AT_ONCE]
        encoded = material.tokenizer.encode_spans([sentence.text for sentence in some])
        for sentence, (ids, offsets), own in zip(some, encoded, labels[begin : begin + _TEXTS_AT_ONCE], strict=True):
            tokens = np.array([material.bos, *ids, *closing], dtype=np.int64)
            firsts, lasts = tokens_of_words(sentence.spans, offsets)
            parts = pieces(tokens, firsts + 1, lasts + 1, window=material.window, is_causal=material.is_causal)
            found.append(Example(parts, own))
    return found
