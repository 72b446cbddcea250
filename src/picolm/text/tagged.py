"""Tagged and untagged sentences of sources, to train a tagger on, and how well a tagger does on some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from picolm.config.schema import Data
from picolm.errors import PicoLMError
from picolm.text.document import Document
from picolm.text.reading import read_documents
from picolm.text.segmentation import Segmentation, sentences
from picolm.text.sources import Source, expand
from picolm.text.tagger import Tagger
from picolm.text.tagsets import COARSE, COARSE_OF

Advance = Callable[[str, int, int], None]
"""(phase, done, total)."""


@dataclass(slots=True)
class Sentences:
    """Sentences that are cut into words; `tags` has a tag for each word, or nothing where they are not tagged."""

    words: list[list[str]] = field(default_factory=list)
    tags: list[list[str]] = field(default_factory=list)

    @property
    def n_words(self) -> int:
        """How many words there are."""
        return sum(map(len, self.words))

    def coarse(self) -> Sentences:
        """The same with the twelve tags in the place of UPOS."""
        return Sentences(self.words, [[COARSE_OF[tag] for tag in own] for own in self.tags])

    def part(self, *, every: int) -> tuple[Sentences, Sentences]:
        """Set each `every`-th sentence apart: what is left, and those."""
        held = [number % every == every - 1 for number in range(len(self.words))]
        return self._where(held, False), self._where(held, True)

    def _where(self, held: Sequence[bool], wanted: bool) -> Sentences:
        words = [own for own, is_held in zip(self.words, held, strict=True) if is_held == wanted]
        return Sentences(words, [own for own, is_held in zip(self.tags, held, strict=True) if is_held == wanted])


@dataclass(frozen=True, slots=True)
class TaggerScore:
    """How a tagger does on tagged sentences.

    Attributes:
        accuracy: share of the words with the tag of the annotation, their borders given.
        known: the same, of words that it was trained on.
        unknown: the same, of all others; None where there are none.
        words: how many were tagged.
        share_unknown: of the words.
    """

    accuracy: float
    known: float | None
    unknown: float | None
    words: int
    share_unknown: float


def read_tagged(sources: Sequence[str], advance: Advance = lambda phase, done, total: None) -> Sentences:
    """Read the tagged sentences of sources; words without a tag are left out.

    Raises:
        PicoLMError: a source cannot be read, or holds no tags.
    """
    found = Sentences()
    for source in expand(sources):
        before = len(found.words)
        for document in _documents(source, advance):
            spans = [(tag.start, tag.stop) for tag in document.tags]
            for part in sentences(document.text, spans):
                found.words.append([document.text[start:stop] for start, stop in spans[part]])
                found.tags.append([tag.upos for tag in document.tags[part]])
        if len(found.words) == before:
            raise PicoLMError(f"{source} has no parts of speech: give CoNLL-U, or records with `tokens` and `upos`")
    return found


def read_words(sources: Sequence[str], limit: int, advance: Advance = lambda phase, done, total: None) -> Sentences:
    """Read sentences without their tags: words as an annotation has them, or else by their shape.

    Args:
        sources: of any kind.
        limit: of so many words, from the beginning, no more are read.
        advance: told how far it is.
    """
    found, shape, n_words = Sentences(), Segmentation(()), 0
    for source in expand(sources):
        for document in _documents(source, advance):
            spans = [(tag.start, tag.stop) for tag in document.tags] or shape.spans(document.text)
            for part in sentences(document.text, spans):
                found.words.append([document.text[start:stop] for start, stop in spans[part]])
            n_words += len(spans)
            if n_words >= limit:
                return found
    return found


def _documents(source: Source, advance: Advance) -> list[Document]:
    reader = read_documents(source, Data())
    found = []
    for document in reader:
        found.append(document)
        advance("reading", min(reader.bytes_read, source.size), source.size)
    return found


def inventory_of(found: Sentences) -> tuple[str, ...]:
    """The tags that occur, in the order of their inventory."""
    used = set(chain.from_iterable(found.tags))
    return tuple(tag for tag in COARSE if tag in used) if used <= set(COARSE) else tuple(sorted(used))


def score(tagger: Tagger, gold: Sentences) -> TaggerScore:
    """Compare a tagger with an annotation of the same inventory, word by word."""
    codes = np.concatenate(tagger.codes(gold.words)).tolist()
    right = np.array([tagger.names[c - 1] == tag for c, tag in zip(codes, chain.from_iterable(gold.tags), strict=True)])
    known = np.array([word.lower() in tagger.segmentation.words for word in chain.from_iterable(gold.words)])
    return TaggerScore(
        accuracy=float(right.mean()),
        known=float(right[known].mean()) if known.any() else None,
        unknown=float(right[~known].mean()) if not known.all() else None,
        words=len(right),
        share_unknown=float(1 - known.mean()),
    )


def segmentation_score(tagger: Tagger, sources: Sequence[str]) -> float:
    """F1 of the words that a tagger finds in texts, against those of an annotation; borders on both sides count."""
    shared = total = 0
    for source in expand(sources):
        for document in _documents(source, lambda phase, done, total: None):
            found = set(tagger.segmentation.spans(document.text))
            gold = {(tag.start, tag.stop) for tag in document.tags}
            shared += len(found & gold)
            total += len(found) + len(gold)
    return 2 * shared / max(total, 1)
