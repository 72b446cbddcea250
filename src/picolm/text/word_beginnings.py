"""Which tokens begin a word."""

from __future__ import annotations

from typing import Any

import numpy as np

from picolm.text.tokenizer import Tokenizer


def word_beginnings(tokenizer: Tokenizer) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Say of each token whether it is the beginning of a word: letters that stand apart from what is before them.

    That shows where a token is written twice: ` the the` is two words, `inging` is one. So it holds for tokenizers that
    keep the space with the word, whatever mark they keep it by; those of characters have no such token.

    Args:
        tokenizer: any.

    Returns:
        bool [vocab_size]; special tokens begin no word.
    """
    found = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
    for token in range(tokenizer.vocab_size):
        if token not in tokenizer.special_ids:
            text = tokenizer.decode([token]).strip()
            apart = f"{text} {text}"
            found[token] = text[:1].isalpha() and tokenizer.decode([token, token]).strip() == apart
    return found
