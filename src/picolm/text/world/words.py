"""Words with their parts of speech, and how they are written down as text."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from picolm.text.document import Tag


class Word(NamedTuple):
    """A word or a punctuation mark with its universal part of speech (UPOS)."""

    text: str
    upos: str


Words = tuple[Word, ...]

_CLOSE = frozenset(".,?!:;")


@cache
def words(notation: str) -> Words:
    """Read `the/DET dog/NOUN`: the notation in which the grammar writes its function words."""
    return tuple(Word(*entry.rsplit("/", 1)) for entry in notation.split())


def capitalised(word: Word) -> Word:
    """Return the word as it begins a sentence."""
    return Word(word.text[0].upper() + word.text[1:], word.upos)


def sentence(*parts: Words, end: str = ".") -> Words:
    """Join parts to a sentence: the first letter large, a mark at the end."""
    first, *rest = (word for part in parts for word in part)
    return (capitalised(first), *rest, Word(end, "PUNCT"))


class Page:
    """Writes sentences one after the other and notes where each word stands.

    Attributes:
        tags: of the words so far, in order; between them lies nothing but white space.
    """

    def __init__(self) -> None:
        self.tags: list[Tag] = []
        self._parts: list[str] = []
        self._length = 0
        self._is_quoted = False

    def write(self, sentence: Words, before: str = " ") -> None:
        """Add a sentence; `before` parts it from what is there already."""
        gap = before if self._length else ""
        for text, upos in sentence:
            if text in _CLOSE:
                gap = ""
            elif text == '"':
                self._is_quoted = not self._is_quoted
                gap = gap if self._is_quoted else ""
            start = self._length + len(gap)
            self._length = start + len(text)
            self._parts += (gap, text)
            self.tags.append(Tag(start, self._length, upos))
            gap = "" if text == '"' and self._is_quoted else " "

    @property
    def text(self) -> str:
        """All that was written."""
        return "".join(self._parts)


def spell(sentence: Words) -> str:
    """Return a sentence's text."""
    page = Page()
    page.write(sentence)
    return page.text
