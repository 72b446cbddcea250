"""Texts whose tokens are known by place: which characters each stands for, and in which word."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picolm.data.split import Split
from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray
from picolm.evaluation.texts import Text
from picolm.text.document import Document
from picolm.text.records import describe
from picolm.text.tagging import align
from picolm.text.tokenizer import Tokenizer

Spans = npt.NDArray[np.int32]
"""First character, and the one after the last, [n, 2]."""


@dataclass(frozen=True, slots=True)
class LocatedText(Text):
    """A text that is read alone, with its characters.

    Attributes:
        id: of its document.
        text: its characters.
        spans: which of them each token stands for.
        words: which of them each word is, ascending and without overlap; none is empty.
    """

    id: str
    text: str
    spans: Spans
    words: Spans


def locate_documents(
    documents: Sequence[Document], tokenizer: Tokenizer, words_field: str | None = None
) -> list[LocatedText]:
    """Tokenize documents and find their words.

    Args:
        documents: of any source.
        tokenizer: of the model.
        words_field: the field of their records that lists their words; None: words are what white space parts.

    Raises:
        PicoLMError: a document has no such list, or a word that its text does not hold.
    """
    encoded = tokenizer.encode_spans([document.text for document in documents])
    return [
        _located(document.id, document.domain, document.text, *tokens, _words(document, words_field))
        for document, tokens in zip(documents, encoded, strict=True)
    ]


def locate_held_out(split: Split, tokenizer: Tokenizer, name: str) -> list[LocatedText]:
    """The held-out documents of a run, each without the separator that ends it, their texts made of their tokens.

    Args:
        split: the documents.
        tokenizer: that made its tokens.
        name: of the run, for errors.

    Raises:
        PicoLMError: a text cannot be made of its tokens, because the tokenizer does not keep every character.
    """
    table = split.documents()
    ids, domains = table["id"].to_pylist(), table["domain"].to_pylist()
    spans = [split.document_span(document) for document in range(split.n_documents)]
    tokens = [split.tokens(start, stop - 1) for start, stop in spans]
    texts = [tokenizer.decode(own, skip_special=False) for own in tokens]
    found = []
    for id, domain, own, text, again in zip(ids, domains, tokens, texts, tokenizer.encode_spans(texts), strict=True):
        if not np.array_equal(own, again[0]):
            raise PicoLMError(
                f"{name}: the tokens of the held-out document '{id}' do not tell its text: name a source instead"
            )
        found.append(_located(id, domain, text, *again, words_of(text)))
    return found


def _located(id: str, domain: str, text: str, tokens: IntArray, spans: Spans, words: Spans) -> LocatedText:
    return LocatedText(tokens, domain, None, len(text.encode()), id, text, spans, words)


def _words(document: Document, field: str | None) -> Spans:
    if field is None:
        return words_of(document.text)
    place, listed = f"the document '{document.id}'", document.metadata.get(field)
    if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
        found = describe(listed) if field in document.metadata else "nothing"
        raise PicoLMError(f"{place} has {found} as its '{field}', which must be a list of strings")
    words = [str(word) for word in listed]
    tags = align(document.text, words, ["X"] * len(words), place=place)
    return np.array([(tag.start, tag.stop) for tag in tags], dtype=np.int32).reshape(-1, 2)


def words_of(text: str) -> Spans:
    """What white space parts (as `str.split` does), with the marks that touch it, [n, 2]."""
    spans, stop = [], 0
    for word in text.split():
        start = text.index(word, stop)
        stop = start + len(word)
        spans.append((start, stop))
    return np.array(spans, dtype=np.int32).reshape(-1, 2)


def word_numbers(spans: Spans, words: Spans) -> IntArray:
    """Which word each token belongs to: the one in which it begins, else the next one.

    So what stands between two words, white space above all, belongs to the one behind it.

    Args:
        spans: of n tokens.
        words: of the text.

    Returns:
        int64 [n], not descending; the number of words where a token stands behind all of them.
    """
    return np.asarray(np.searchsorted(words[:, 1], spans[:, 0], side="right"), dtype=np.int64)


def across_words(spans: Spans, words: Spans) -> npt.NDArray[np.bool_]:
    """Whether a token covers characters of a later word than its own too, bool [n]."""
    beyond = np.append(words[1:, 0], np.iinfo(np.int32).max)
    numbers = word_numbers(spans, words)
    inside = numbers < len(words)
    return inside & (spans[:, 1] > beyond[np.minimum(numbers, max(len(words) - 1, 0))])


def form_of(word: str) -> str:
    """The word in lower case without the marks at its ends; empty where it is nothing but marks.

    Under this name words are counted, and looked for in lists: `"Dogs,` and `dogs` are one form, `dog's` is another.
    """
    begin, end = 0, len(word)
    while begin < end and not _is_letter(word[begin]):
        begin += 1
    while end > begin and not _is_letter(word[end - 1]):
        end -= 1
    return word[begin:end].lower()


def _is_letter(character: str) -> bool:
    """Letters and digits of any script, and the marks that combine with them."""
    return unicodedata.category(character)[0] in "LNM"
