"""How a .txt file becomes documents: whole, by paragraph, by line, or in pieces of about 8 kB."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

Rule = Literal["pieces", "file", "paragraphs", "lines"]

PIECE_BYTES = 8192
WHOLE_BYTES = 2 * PIECE_BYTES

_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")
# From the best place for a cut to the worst.
_CUTS = (_BLANK_LINES, re.compile(r"\n"), re.compile(r"\s+"))


def split_text(text: str, rule: Rule) -> Iterator[tuple[int, str]]:
    """Split a file's text into documents.

    Args:
        text: with LF line ends.
        rule: `data.txt_documents`.

    Yields:
        (position of the document's first character in `text`, its text). Joined, the parts of `file` and of `pieces`
        are `text` exactly; `paragraphs` and `lines` leave out what separates them.
    """
    if rule == "file":
        yield 0, text
    elif rule == "pieces":
        yield from _pieces(text)
    else:
        yield from _between(text, _BLANK_LINES if rule == "paragraphs" else re.compile(r"\n"))


def _between(text: str, separator: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    start = 0
    for match in separator.finditer(text):
        yield start, text[start : match.start()]
        start = match.end()
    yield start, text[start:]


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    n_bytes = len(text.encode())
    if n_bytes <= WHOLE_BYTES:
        yield 0, text
        return
    # Sizes are meant in bytes, positions are in characters: take this text's own ratio.
    target = max(2, PIECE_BYTES * len(text) // n_bytes)
    start = 0
    while len(text) - start > target + target // 2:
        end = _cut(text, start, target)
        yield start, text[start:end]
        start = end
    yield start, text[start:]


def _cut(text: str, start: int, target: int) -> int:
    """Find the best place between 1/2 and 3/2 of the target size: the nearest to it among the best kind."""
    ideal = start + target
    for pattern in _CUTS:
        ends = [match.end() for match in pattern.finditer(text, start + target // 2, ideal + target // 2)]
        if ends:
            return min(ends, key=lambda end: abs(end - ideal))
    return ideal
