"""Text -> words and sentences, for texts that come without: by shape first, then by the words that are known.

What a word is differs from one annotation to another (`don't` or `do n't`, `l'` `homme`, where a Chinese word ends). So
the shape of the text only proposes, and the words of the annotation that a tagger learnt from decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

Span = tuple[int, int]
"""First character and the one after the last."""

# Scripts without spaces between words: Han, kana, and the marks that go with them.
_UNSPACED = r"\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_KATAKANA = re.compile(r"[\u30a0-\u30ff]+")
_LETTER = rf"[^\W\d_{_UNSPACED}]"
# A straight apostrophe, or a right single quotation mark.
_APOSTROPHE = "['\u2019]"
_SHAPE = re.compile(
    rf"(?P<unspaced>[{_UNSPACED}]+)"
    # Initials (U.S.), then letters with apostrophes within or, as a clitic has it, before or behind them.
    rf"|(?:{_LETTER}\.){{2,}}"
    rf"|(?P<letters>{_APOSTROPHE}?{_LETTER}(?:{_LETTER}|[\u0300-\u036f]|{_APOSTROPHE}(?={_LETTER}))*{_APOSTROPHE}?)"
    r"|\d+(?:[.,:]\d+)*|(?P<mark>[^\w\s])(?P=mark)*|\S"
)
_ENDS = re.compile("[.!?\u2026\u3002\uff01\uff1f]+")
_CLOSING = frozenset("\"'\u2019\u201d)]}\u00bb\u300d\u300f")


class Segmentation:
    """Cuts texts into words.

    Args:
        words: those that are known, in any case; without any, shape alone decides.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = frozenset(_plain(word) for word in words)
        self._longest = max((len(word) for word in self.words), default=1)

    def spans(self, text: str) -> list[Span]:
        """Where the words of a text stand, in order and without overlap; all characters but white space are covered."""
        return [span for found in _SHAPE.finditer(text) for span in self._within(text, found)]

    def _within(self, text: str, found: re.Match[str]) -> Iterator[Span]:
        start, stop = found.span()
        if found["unspaced"] is not None:
            yield from self._matched(text, start, stop)
        elif found["letters"] is not None:
            yield from self._parted(text, start, stop)
        else:
            yield start, stop

    def _parted(self, text: str, start: int, stop: int) -> Iterator[Span]:
        """A word, or a word and the clitics on either side of it, as far as those are known."""
        word = _plain(text[start:stop])
        if "'" not in word or word in self.words:
            yield start, stop
            return
        inner = [place for place in range(1, len(word)) if word[place:] in self.words or word[:place] in self.words]
        # `n't` before `'t`: the longest clitic behind; then one before, as in `l'homme`.
        behind = [place for place in inner if "'" in word[place:] and word[place:] in self.words]
        before = [place for place in inner if word[:place].endswith("'") and word[:place] in self.words]
        border = behind[0] if behind else before[-1] if before else None
        if border is not None:
            yield from self._parted(text, start, start + border)
            yield from self._parted(text, start + border, stop)
        elif word[0] == "'" or word[-1] == "'":
            # No clitic, so a quotation mark.
            edges = [start, start + (word[0] == "'"), stop - (word[-1] == "'"), stop]
            yield from ((a, b) for a, b in pairwise(edges) if b > a)
        else:
            yield start, stop

    def _matched(self, text: str, start: int, stop: int) -> Iterator[Span]:
        """The longest known word at each place; what is not known is one character, or a run of katakana."""
        while start < stop:
            for length in range(min(self._longest, stop - start), 1, -1):
                if text[start : start + length] in self.words:
                    break
            else:
                run = _KATAKANA.match(text, start, stop)
                length = run.end() - start if run else 1
            yield start, start + length
            start += length


def _plain(word: str) -> str:
    return word.lower().replace("\u2019", "'")


def sentences(text: str, spans: Sequence[Span]) -> list[slice]:
    """Part words into sentences: at line ends, and behind full stops with the quotes and brackets that close there.

    Args:
        text: what the words were cut from.
        spans: of the words, in order.

    Returns:
        Slices of `spans`, none of them empty.
    """
    parts: list[slice] = []
    begin = 0
    for index in range(1, len(spans)):
        previous, word = text[slice(*spans[index - 1])], text[slice(*spans[index])]
        gap = text[spans[index - 1][1] : spans[index][0]]
        is_closed = (
            previous in _CLOSING and index - 2 >= begin and bool(_ENDS.fullmatch(text[slice(*spans[index - 2])]))
        )
        ended = bool(_ENDS.fullmatch(previous)) or is_closed
        if "\n" in gap or (ended and word not in _CLOSING and not _ENDS.fullmatch(word)):
            parts.append(slice(begin, index))
            begin = index
    return [*parts, slice(begin, len(spans))] if spans else []
