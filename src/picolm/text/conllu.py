"""CoNLL-U (Universal Dependencies) -> documents with parts of speech.

A sentence's text is its `# text`, or else its words as they are written, with spaces where no `SpaceAfter=No` forbids
them. A document is what stands under a `# newdoc`; sentences before any `# newdoc` are joined into documents of about
8 kB, as a .txt file is cut into pieces. Sentences are joined by a line end, whatever the language.

A multiword token (`3-4 du`) is one word of the text and carries the tag of its first syntactic word (`de`, ADP): the
text has one place, and a place has one tag. Empty nodes (`8.1`) are not in the text and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from picolm.errors import PicoLMError
from picolm.text.document import JSON, Document, Tag
from picolm.text.lines import Lines, decode
from picolm.text.pieces import PIECE_BYTES
from picolm.text.tagging import UNTAGGED, align

_COLUMNS = 10


@dataclass(slots=True)
class _Sentence:
    line: int
    comments: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    spaces: list[bool] = field(default_factory=list)
    covered: int = 0
    """Syntactic words up to this number belong to a multiword token that was read."""

    @property
    def text(self) -> str:
        """The sentence as it is written."""
        if "text" in self.comments:
            return self.comments["text"]
        return "".join(
            word + (" " if space else "") for word, space in zip(self.words, self.spaces, strict=True)
        ).rstrip()

    def add(self, columns: list[str], place: str) -> None:
        """Take in a line of the sentence's table."""
        number, form, tag, misc = columns[0], columns[1], columns[3], columns[9]
        if "." in number:
            return
        first, _, last = number.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise PicoLMError(f"{place} begins with '{number}', which numbers no word (3), range (3-4) or node (8.1)")
        if last:
            self.covered = int(last)
            tag = ""  # its first word, on the next line, says it
        elif int(number) <= self.covered:
            self.tags[-1] = self.tags[-1] or tag
            return
        self.words.append(form)
        self.tags.append(tag)
        self.spaces.append("SpaceAfter=No" not in misc.split("|"))

    def tagged(self, name: str) -> tuple[Tag, ...]:
        """The tags of the sentence's words, by their places in its text."""
        tags = [tag or UNTAGGED for tag in self.tags]
        return align(self.text, self.words, tags, place=f"{name}, the sentence at line {self.line}")


def read_conllu(lines: Lines, stem: str, file_name: str) -> Iterator[Document]:
    """Read the documents of a CoNLL-U file, streaming.

    Args:
        lines: of the file.
        stem: the documents' domain.
        file_name: what ids begin with where `# newdoc` gives none.

    Raises:
        PicoLMError: a line is not CoNLL-U, or a word is not in its sentence's `# text`; named by line.
    """
    gathered: list[_Sentence] = []
    size = 0
    is_marked = False
    for sentence in _sentences(lines):
        starts = any(key == "newdoc" or key.startswith("newdoc ") for key in sentence.comments)
        if gathered and (starts or (size >= PIECE_BYTES and not is_marked)):
            yield _document(gathered, lines.name, stem, file_name)
            gathered, size = [], 0
        is_marked |= starts
        gathered.append(sentence)
        size += len(sentence.text.encode()) + 1
    if not gathered:
        raise PicoLMError(f"{lines.name} is empty: it has no sentences")
    yield _document(gathered, lines.name, stem, file_name)


def _document(sentences: list[_Sentence], name: str, stem: str, file_name: str) -> Document:
    texts: list[str] = []
    tags: list[Tag] = []
    start = 0
    for sentence in sentences:
        tags += [Tag(start + tag.start, start + tag.stop, tag.upos) for tag in sentence.tagged(name)]
        texts.append(sentence.text)
        start += len(sentence.text) + 1
    first = sentences[0]
    comments: dict[str, JSON] = {
        key: value
        for key, value in first.comments.items()
        if key not in ("text", "sent_id") and not key.startswith(("newdoc", "newpar"))
    }
    return Document(
        id=first.comments.get("newdoc id") or f"{file_name}:{first.line}",
        text="\n".join(texts),
        domain=stem,
        metadata={**comments, "sentences": len(sentences)},
        tags=tuple(tags),
    )


def _sentences(lines: Lines) -> Iterator[_Sentence]:
    sentence: _Sentence | None = None
    for number, content in lines:
        line = decode(lines.name, content, number).rstrip("\r\n")
        if not line.strip():
            if sentence is not None and sentence.words:
                yield sentence
                sentence = None
            continue
        sentence = sentence or _Sentence(number)
        if line.startswith("#"):
            key, equals, value = line[1:].partition("=")
            sentence.comments[key.strip()] = value.strip() if equals else ""
            continue
        columns = line.split("\t")
        if len(columns) != _COLUMNS:
            raise PicoLMError(
                f"{lines.name}, line {number} has {len(columns)} columns; CoNLL-U has {_COLUMNS}, parted by tabs"
            )
        sentence.add(columns, f"{lines.name}, line {number}")
    if sentence is not None and sentence.words:
        yield sentence
