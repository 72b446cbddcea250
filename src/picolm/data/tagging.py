"""Parts of speech of tokens: each token gets the tag of the word that it overlaps most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from picolm.text.document import Tag
from picolm.text.tagging import UPOS

Int32Array = np.ndarray[Any, np.dtype[np.int32]]
UInt8Array = np.ndarray[Any, np.dtype[np.uint8]]

NONE = 0
"""The tag of a separator, of white space, and of a word without a part of speech."""

_CODES = {name: code for code, name in enumerate(UPOS, start=1)}


def packed(tags: Sequence[Tag]) -> Int32Array:
    """Turn tags into numbers, int32 [n, 3]: first character, the one after the last, 1 + index in `UPOS`."""
    return np.array([(tag.start, tag.stop, _CODES[tag.upos]) for tag in tags], dtype=np.int32).reshape(-1, 3)


def tags_of_tokens(spans: Int32Array, words: Int32Array) -> UInt8Array:
    """Give each token the tag of the word with which it shares most characters, of equals the first.

    Args:
        spans: int [tokens, 2], the characters of each token; those of one character's bytes repeat it.
        words: int [words, 3], ascending and without overlap, as `packed` makes them.

    Returns:
        uint8 [tokens]; `NONE` where a token shares no character with a word.
    """
    tags = np.full(len(spans), NONE, dtype=np.uint8)
    if not len(words) or not len(spans):
        return tags
    starts, stops = spans[:, 0], spans[:, 1]
    first = np.searchsorted(words[:, 1], starts, side="right")
    beyond = np.searchsorted(words[:, 0], stops, side="left")
    most = np.zeros(len(spans), dtype=np.int64)
    # As a rule a token touches one word; the loop is as long as the most that any touches.
    for ahead in range(int((beyond - first).max())):
        touched = np.flatnonzero(first + ahead < beyond)
        word = words[first[touched] + ahead]
        shared = np.minimum(stops[touched], word[:, 1]) - np.maximum(starts[touched], word[:, 0])
        better = shared > most[touched]
        most[touched[better]] = shared[better]
        tags[touched[better]] = word[better, 2]
    return tags
