"""Where words begin and end to a model whose tokens mark beginnings, and what that adds to the surprisal of a word.

A token such as ` dog` says that a word begins; that it is over, and is not `dogs`, only the next token says. So the
product of its tokens' probabilities is that of all words that begin with `dog`, and such products add up to more than
one. Let B be the tokens that begin a word, and the one that ends a text. Then (Pimentel & Meister 2024, eq. 6; Oh &
Schuler 2024)

    p(word | context) = product of p(token | ...) * P(B | context, word) / P(B | context)

adds up to one over all words. Nothing is divided by at the first word of a text, which begins with any token.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.located import LocatedText, across_words, word_numbers
from picolm.text.tokenizer import Tokenizer


def beginnings(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """Which tokens begin a word, or end a text, bool [V].

    Those are found by decoding each behind another token: what begins with white space there begins a word.

    Raises:
        PicoLMError: no token does.
    """
    found = np.zeros(tokenizer.vocab_size, dtype=bool)
    first = _visible(tokenizer)
    before = len(tokenizer.decode([first], skip_special=False))
    for token in range(tokenizer.vocab_size):
        if token not in tokenizer.special_ids:
            found[token] = tokenizer.decode([first, token], skip_special=False)[before : before + 1].isspace()
    if not found.any():
        raise PicoLMError("bow_correction needs a tokenizer whose tokens begin with the space before a word; none does")
    found[tokenizer.separator_id] = True
    return found


def _visible(tokenizer: Tokenizer) -> int:
    """Some token that is neither special nor white space nor a part of a character."""
    ids = (token for token in range(tokenizer.vocab_size) if token not in tokenizer.special_ids)
    texts = ((token, tokenizer.decode([token])) for token in ids)
    return next(token for token, text in texts if text.strip() and "\ufffd" not in text)


def refuse_unmarked(text: LocatedText, begins: npt.NDArray[np.bool_]) -> None:
    """Raise unless every word but the first begins with a token of B, and no other token of it is of B.

    Of white space in several tokens each may be of B: what is added for one is taken off for the next.
    """
    numbers = word_numbers(text.spans, text.words)
    visible = np.array([bool(text.text[start:stop].strip()) for start, stop in text.spans.tolist()], dtype=bool)
    across = across_words(text.spans, text.words)
    for place in range(1, len(numbers)):
        is_new = numbers[place] != numbers[place - 1]
        marks = bool(begins[text.tokens[place]])
        if across[place] or (is_new and not marks) or (not is_new and marks and visible[place - 1]):
            start, stop = text.spans[place].tolist()
            raise PicoLMError(
                f"the text '{text.id}': the token '{text.text[start:stop]}' at character {start} "
                f"{'reaches over words' if across[place] else 'does not mark words as bow_correction needs it'}: "
                "leave the correction or the text out"
            )


def corrections(numbers: IntArray, n_words: int, log_mass: FloatArray) -> FloatArray:
    """What is added to the surprisal of each word: log P(B | before it) - log P(B | with it).

    Args:
        numbers: the word of each token [n], not descending.
        n_words: how many there are; those without a token get NaN.
        log_mass: log P(B) before each token and behind the last one [n + 1].

    Returns:
        Nats, float64 [n_words].
    """
    first = np.searchsorted(numbers, np.arange(n_words), side="left")
    last = np.searchsorted(numbers, np.arange(n_words), side="right")
    before = np.where(first == 0, 0.0, log_mass[np.minimum(first, len(numbers))])
    return np.asarray(np.where(first < last, before - log_mass[last], np.nan))
