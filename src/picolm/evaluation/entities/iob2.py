"""Files of words with IOB2 tags: Universal NER's, with five columns, and plain ones with two.

    # sent_id = 1                          # sent_id = 1
    # text = Umalis si Juan.               Umalis  O
    1  Umalis  O      -  -                 si      O
    2  si      O      -  -                 Juan    B-PER
    3  Juan    B-PER  -  annotator         .       O
    4  .       O      -  -

Columns are parted by tabs, two columns also by spaces; an empty line ends a sentence. Lines of multiword tokens (`3-4`)
and empty nodes (`8.1`) are left out: their words stand on lines of their own, with the tags. A type that is not asked
for (Universal NER's OTH) is no entity, nor is the artefact `B-O`, as in Universal NER's own reader. Everything else is
kept as it is read, an `I-` that nothing began included.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from picolm.errors import PicoLMError, nearest
from picolm.text.lines import Lines, decode

OUTSIDE = "O"
TYPES = ("PER", "ORG", "LOC")
TAGS = (OUTSIDE, *(f"{prefix}-{kind}" for kind in TYPES for prefix in "BI"))
"""All tags; a label is a place in it. The order is that of Universal NER's loader."""

_NUMBERED, _PLAIN = 5, 2
_NUMBER = re.compile(r"\d+([-.]\d+)?")
_UNENDED = "no empty line ends the one before"


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words with tags.

    Attributes:
        words: in order.
        tags: one of `TAGS` for each word, as read.
        text: the `# text` comment; None where there is none.
        place: file and line, for errors.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    text: str | None
    place: str


def read_sentences(path: Path, dropped: Collection[str] = ("OTH",)) -> list[Sentence]:
    """Read all sentences of a file, plain or gzipped (`.gz`).

    Args:
        path: of the file.
        dropped: types beside `TYPES` that count as no entity.

    Raises:
        PicoLMError: it is not there, empty, damaged, or a line is not what it must be; named by line.
    """
    try:
        with path.open("rb") as file:
            lines = Lines(str(path), file, packed=path.suffix == ".gz")
            sentences = [unfinished.sentence(lines.name) for unfinished in _sentences(lines, dropped)]
    except FileNotFoundError:
        siblings = [str(other) for other in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(str(path), siblings)
        raise PicoLMError(f"there is no file of entities '{path}'{hint if 'did you mean' in hint else ''}") from None
    except OSError as error:
        raise PicoLMError(f"cannot read the entities in {path}: {error.strerror or error}") from None
    if not sentences:
        raise PicoLMError(f"{path} is empty: it has no sentences")
    return sentences


@dataclass(slots=True)
class _Unfinished:
    line: int
    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    text: str | None = None

    def take_note(self, comment: str, place: str) -> None:
        key, equals, value = (part.strip() for part in comment[1:].partition("="))
        if self.words and key in ("sent_id", "text"):
            raise PicoLMError(f"{place} begins a sentence with its {key}, but {_UNENDED}")
        self.text = value if equals and key == "text" else self.text

    def sentence(self, name: str) -> Sentence:
        return Sentence(tuple(self.words), tuple(self.tags), self.text, f"{name}, line {self.line}")


def _sentences(lines: Lines, dropped: Collection[str]) -> Iterator[_Unfinished]:
    sentence: _Unfinished | None = None
    width = 0
    for number, content in lines:
        line = decode(lines.name, content, number).rstrip("\r\n")
        place = f"{lines.name}, line {number}"
        if not line.strip():
            if sentence is not None and sentence.words:
                yield sentence
                sentence = None
            continue
        sentence = sentence or _Unfinished(number)
        if _is_comment(line, width):
            sentence.take_note(line, place)
            continue
        columns = _columns(line)
        width = width or len(columns)
        _check_width(columns, width, place)
        if width == _NUMBERED and not _is_word(columns[0], bool(sentence.words), place):
            continue
        word, tag = columns[1:3] if width == _NUMBERED else columns
        if not word:
            raise PicoLMError(f"{place} has a tag but no word")
        sentence.words.append(word)
        sentence.tags.append(_tag(tag, dropped, place))
    if sentence is not None and sentence.words:
        yield sentence


def _columns(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else line.split()


def _is_comment(line: str, width: int) -> bool:
    """Whether a line is no word; in a file of two columns `#` may be one."""
    if not line.startswith("#"):
        return False
    columns = _columns(line)
    looks_tagged = len(columns) == _PLAIN and (columns[1] == OUTSIDE or columns[1].startswith(("B-", "I-")))
    return width == _NUMBERED or not looks_tagged


def _check_width(columns: Sequence[str], width: int, place: str) -> None:
    n = len(columns)
    if width not in (_NUMBERED, _PLAIN):
        raise PicoLMError(
            f"{place} has {n} column{'s' * (n != 1)}; Universal NER has {_NUMBERED}, parted by tabs "
            f"(number, word, tag, -, annotator), a plain file {_PLAIN} (word, tag)"
        )
    if n != width:
        raise PicoLMError(f"{place} has {n} column{'s' * (n != 1)}, but the words before it have {width}")


def _is_word(number: str, has_words: bool, place: str) -> bool:
    """Whether a numbered line is a word of the sentence, and neither a multiword token nor an empty node."""
    if not _NUMBER.fullmatch(number):
        raise PicoLMError(f"{place} begins with '{number[:30]}', which numbers no word (3), range (3-4) or node (8.1)")
    if number == "1" and has_words:
        raise PicoLMError(f"{place} begins a sentence with its word 1, but {_UNENDED}")
    return number.isdecimal()


def dropping(dropped: Collection[str], kind: str) -> str:
    """The setting that leaves out one more type, as it is written."""
    return f"dropped_types=[{','.join((*dropped, kind))}]"


def _tag(tag: str, dropped: Collection[str], place: str) -> str:
    prefix, _, kind = tag.partition("-")
    if tag == OUTSIDE or (prefix in ("B", "I") and (kind == OUTSIDE or kind in dropped)):
        return OUTSIDE
    if tag in TAGS:
        return tag
    hint = nearest(tag[:30], TAGS)
    if prefix in ("B", "I") and kind.isalpha():
        hint += f" (a type that is not asked for is named in {dropping(dropped, kind[:30])})"
    raise PicoLMError(f"{place} has the tag '{tag[:30]}'{hint}")
