"""Parts of speech: the universal inventory, and finding annotated words in a text."""

from __future__ import annotations

from collections.abc import Sequence

from picolm.errors import PicoLMError, nearest
from picolm.text.document import Tag

UPOS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ"),
    *("SYM", "VERB", "X"),
)
"""The universal parts of speech of Universal Dependencies 2, in their alphabetical order."""
UNTAGGED = "_"
"""What stands for the tag of a word that has none (CoNLL-U's empty field)."""

_KNOWN = frozenset((*UPOS, UNTAGGED))


def align(text: str, words: Sequence[str], tags: Sequence[str], *, place: str) -> tuple[Tag, ...]:
    """Find tagged words in their text, each behind the one before.

    Args:
        text: what the words were cut from.
        words: as they are written in `text`, in order.
        tags: one of `UPOS` for each word, or `UNTAGGED`, which leaves the word out.
        place: where the text comes from, the beginning of an error.

    Raises:
        PicoLMError: a word is not in the rest of the text, a tag is not one of `UPOS`, or their numbers differ.
    """
    if len(words) != len(tags):
        raise PicoLMError(f"{place} has {len(words)} words but {len(tags)} parts of speech")
    found: list[Tag] = []
    position = 0
    for word, tag in zip(words, tags, strict=True):
        if tag not in _KNOWN:
            raise PicoLMError(f"{place} has the part of speech '{tag}', which is not universal{nearest(tag, UPOS)}")
        start = text.find(word, position)
        if start < 0 or not word:
            rest = text[position : position + 30]
            raise PicoLMError(f"{place} has the word '{word}', which its text does not hold behind '…{rest}'")
        position = start + len(word)
        if tag != UNTAGGED:
            found.append(Tag(start, position, tag))
    return tuple(found)
