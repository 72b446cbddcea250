"""A faster way to the same ids: words are encoded once and looked up afterwards.

Byte-level BPE (GPT-2's kind, and ours) cuts a text into words by a pattern and encodes each word by itself, so a text's
ids are those of its words end to end. Words repeat; a table of them is several times faster than encoding each anew.
The pattern speaks of letters, numbers and white space in all of Unicode, about which two libraries can differ. So the
table serves texts of the alphabets below, for which the tests compare every character, and leaves others alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers

# Latin, Greek, Cyrillic; punctuation, superscripts, currencies.
ALPHABETS = (range(0x0000, 0x0530), range(0x2000, 0x20C0))

_LARGEST_TABLE = 2**18


class WordTable(dict[str, bytes]):
    """The ids of words, as little-endian uint32.

    Use `of` to make one, which answers None where a tokenizer does not work word by word.
    """

    def __init__(self, model: models.BPE) -> None:
        super().__init__()
        self._model = model

    @classmethod
    def of(cls, inner: tokenizers.Tokenizer) -> WordTable | None:
        """Make the table of a tokenizer; None where its ids are not those of GPT-2's words end to end."""
        splitter = inner.pre_tokenizer
        is_usual = (
            isinstance(splitter, pre_tokenizers.ByteLevel)
            and splitter.use_regex
            and not splitter.add_prefix_space
            and isinstance(inner.model, models.BPE)
            and not inner.model.dropout
            and inner.normalizer is None
            # Special tokens that are written out are characters here; other added tokens would be cut out first.
            and all(token.special for token in inner.get_added_tokens_decoder().values())
        )
        return cls(inner.model) if is_usual else None

    def __missing__(self, word: str) -> bytes:
        spelled = word.encode().decode("latin-1").translate(_LETTER_OF_BYTE)
        ids = np.array([token.id for token in self._model.tokenize(spelled)], dtype="<u4").tobytes()
        if len(self) >= _LARGEST_TABLE:
            # Memory stays flat; the frequent words are back at once.
            self.clear()
        self[word] = ids
        return ids

    def encode(self, text: str) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """Return the text's ids, int64 [n]; None where it holds characters of other alphabets."""
        if not text.isascii() and _OTHER.search(text):
            return None
        words = b"".join(map(self.__getitem__, _WORD.findall(text)))
        return np.frombuffer(words, dtype="<u4").astype(np.int64)


def _members(kinds: str, others: Sequence[str] = ()) -> str:
    """The characters of the alphabets whose Unicode category begins with one of `kinds`, for a character class."""
    found = (chr(code) for alphabet in ALPHABETS for code in alphabet)
    return "".join(re.escape(one) for one in found if unicodedata.category(one)[0] in kinds or one in others)


_LETTERS, _NUMBERS = _members("L"), _members("N")
_SPACES = _members("Z", "\t\n\v\f\r\x85")
_WORD = re.compile(
    rf"'(?:[stmd]|re|ve|ll)| ?[{_LETTERS}]+| ?[{_NUMBERS}]+| ?[^{_SPACES}{_LETTERS}{_NUMBERS}]+"
    rf"|[{_SPACES}]+(?![^{_SPACES}])|[{_SPACES}]+"
)
_OTHER = re.compile(f"[^{''.join(f'{chr(part.start)}-{chr(part.stop - 1)}' for part in ALPHABETS)}]")


def _letters_of_bytes() -> dict[int, str]:
    """GPT-2's spelling of bytes: those that are printable as themselves, the rest by letters from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(rest)}


_LETTER_OF_BYTE = _letters_of_bytes()
