"""Pseudo-log-likelihood: what a masked model thinks of a text, token by token with the token hidden."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray, bucketed, padded
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.scoring import Advance, Engine, FirstToken, Scorer, Scores, gathered, refuse_long
from picolm.text.tokenizer import Tokenizer

Hiding = Literal["original", "within_word_l2r"]
"""What is hidden beside the scored token: nothing (Salazar et al. 2020), or what follows in its word (Kauf & Ivanova
2023), so that a long word is not betrayed by its own rest."""
_TEXTS_AT_ONCE = 256


class _Copy(NamedTuple):
    text: int
    place: int
    """Of the scored token in the text."""
    stop: int
    """Where hiding ends."""


class MaskedScorer(Scorer):
    """Sum over t of log p(x_t | the text with x_t hidden).

    Args:
        engine: of a bidirectional model.
        tokenizer: its tokenizer, which must have a mask token.
        first_token: `bos`: the text stands between two separators, as in training; `none`: it stands bare.
        hiding: what is hidden with a token.
        bos: the token on both sides; None: the tokenizer's separator.
    """

    is_causal = False

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        first_token: FirstToken = "bos",
        hiding: Hiding = "within_word_l2r",
        bos: int | None = None,
    ) -> None:
        if tokenizer.mask_id is None:
            raise PicoLMError(
                "a masked model is scored with a mask token, and its tokenizer has none (such as '<mask>')"
            )
        self.engine, self.tokenizer, self.hiding, self.mask_id = engine, tokenizer, hiding, tokenizer.mask_id
        self.border = [] if first_token == "none" else [tokenizer.separator_id if bos is None else bos]

    def score(self, texts: Sequence[str], places: Sequence[str] = (), advance: Advance = lambda count: None) -> Scores:
        """Score texts (see `Scorer.score`): as many forwards as tokens, in batches across texts."""
        found: list[FloatArray] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            some = slice(start, start + _TEXTS_AT_ONCE)
            found += self._score(texts[some], places[some])
            advance(len(texts[some]))
        return gathered(texts, found)

    def _score(self, texts: Sequence[str], places: Sequence[str]) -> list[FloatArray]:
        spans = self.tokenizer.encode_spans(texts)
        refuse_long([ids for ids, _ in spans], places, self.engine.window - 2 * len(self.border))
        whole = [np.array([*self.border, *ids, *self.border], dtype=np.int64) for ids, _ in spans]
        copies = list(self._copies(texts, [offsets for _, offsets in spans]))
        found = [np.empty(len(ids)) for ids, _ in spans]
        with self.engine.reading():
            for batch in bucketed([len(whole[copy.text]) for copy in copies], self.engine.budget):
                chosen = [copies[number] for number in batch]
                for copy, log_p in zip(chosen, self._read(whole, chosen), strict=True):
                    found[copy.text][copy.place] = log_p
        return found

    def _copies(self, texts: Sequence[str], offsets: Sequence[npt.NDArray[np.int32]]) -> Iterator[_Copy]:
        for number, (text, spans) in enumerate(zip(texts, offsets, strict=True)):
            words = word_numbers(text, spans)
            for place, word in enumerate(words):
                stop = place + 1
                while self.hiding == "within_word_l2r" and stop < len(words) and words[stop] == word:
                    stop += 1
                yield _Copy(number, place, stop)

    def _read(self, whole: Sequence[IntArray], copies: Sequence[_Copy]) -> FloatArray:
        shift, device = len(self.border), self.engine.device
        rows = []
        for copy in copies:
            row = whole[copy.text].copy()
            row[shift + copy.place : shift + copy.stop] = self.mask_id
            rows.append(row)
        lengths = np.array([len(row) for row in rows])
        inputs = padded(rows, self.tokenizer.pad_id).to(device)
        real = torch.from_numpy(np.arange(inputs.shape[1])[None] < lengths[:, None])
        hidden = self.engine.model(inputs, attention_mask=None if bool(real.all()) else real.to(device))
        width = inputs.shape[1]
        places = np.array([row * width + shift + copy.place for row, copy in enumerate(copies)])
        targets = np.array([whole[copy.text][shift + copy.place] for copy in copies])
        return self.engine.likelihood(hidden, places, targets).log_p


def word_numbers(text: str, spans: npt.NDArray[np.int32]) -> list[int]:
    """Number the words of a text, token by token.

    A word begins at white space, behind it, and where letters, digits and marks meet, as the usual pre-tokenizers cut.
    A space that is a token of its own belongs to the word behind it; tokens without characters of their own (parts of
    one character's bytes) belong to the word before.

    Args:
        text: the text.
        spans: which characters each token stands for [n, 2], as `Tokenizer.encode_spans`.
    """
    numbers: list[int] = []
    word, end, before = 0, 0, ""
    for start, stop in spans.tolist():
        token = text[start:stop]
        word += bool(numbers and (start > end or (start == end and _begins_word(before, token))))
        numbers.append(word)
        before, end = token, max(end, stop)
    return numbers


def _begins_word(before: str, token: str) -> bool:
    """Whether a token begins a word although the token before it ends where it begins."""
    last, first = _kind(before[-1:]), _kind(token[:1])
    return first == "space" or (last != first and before != " ")


def _kind(character: str) -> str:
    if character.isspace():
        return "space"
    return "letter" if character.isalpha() else "digit" if character.isnumeric() else "mark"
