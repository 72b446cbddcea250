"""The texts whose perplexity is measured: a run's held-out documents, documents of any source, or chunks of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from picolm.config.schema import Data
from picolm.data.split import Split
from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray
from picolm.evaluation.scoring import encode
from picolm.randomness import generator
from picolm.text.document import Document
from picolm.text.reading import read_documents
from picolm.text.sources import expand
from picolm.text.tokenizer import Tokenizer

_DOCUMENTS_AT_ONCE = 100
"""How many documents one stream of chunks is made of, as in pico-dataset."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text that is read alone.

    Attributes:
        tokens: its ids, without a token that begins it.
        domain: the group in which it is reported.
        source: a larger group; None where there is none.
        n_bytes: UTF-8 bytes; None where tokens were cut, so that they are no text's.
    """

    tokens: IntArray
    domain: str
    source: str | None
    n_bytes: int | None


def held_out_texts(split: Split) -> list[Text]:
    """The held-out documents of a run, each without the separator that ends it."""
    table = split.documents()
    domains, sizes = table["domain"].to_pylist(), table["bytes"].to_pylist()
    texts = []
    for document in range(split.n_documents):
        start, stop = split.document_span(document)
        texts.append(Text(split.tokens(start, stop - 1), domains[document], None, sizes[document]))
    return texts


def source_documents(sources: Sequence[str], data: Data) -> list[Document]:
    """All documents of sources, in order.

    Raises:
        PicoLMError: a source is not there, damaged, or has no text; named by file and line.
    """
    documents = [document for source in expand(sources) for document in read_documents(source, data)]
    if not documents:
        raise PicoLMError(f"{', '.join(sources)}: there is no text in it")
    return documents


def document_texts(documents: Sequence[Document], tokenizer: Tokenizer) -> list[Text]:
    """Documents by their domains."""
    encoded = encode(tokenizer, [document.text for document in documents])
    return [
        Text(ids, document.domain, None, len(document.text.encode()))
        for ids, document in zip(encoded, documents, strict=True)
    ]


def paloma_texts(documents: Sequence[Document], tokenizer: Tokenizer) -> list[Text]:
    """Documents in Paloma's form: records with a `source`, and in it a `subdomain` (or else a `domain`).

    Raises:
        PicoLMError: a record has no source.
    """
    found = []
    for text, document in zip(document_texts(documents, tokenizer), documents, strict=True):
        source = document.metadata.get("source")
        if not isinstance(source, str) or not source:
            raise PicoLMError(f"the document '{document.id}' has no field 'source', which form=paloma needs")
        inner = document.metadata.get("subdomain")
        name = str(inner) if isinstance(inner, str | int) else text.domain
        found.append(Text(text.tokens, f"{source}/{name}", source, text.n_bytes))
    return found


def tinsy_texts(
    documents: Sequence[Document], tokenizer: Tokenizer, *, window: int, chunks: int, seed: int
) -> list[Text]:
    """Chunks of documents as in `paloma-tinsy` of pico-dataset, each domain taken for one of its sources.

    The documents of a domain are shuffled; batches of 100 of them are joined, a separator behind each, and cut into
    chunks of `window` tokens, of which the last short one is left out; up to `chunks` of them are drawn. (Pico decodes
    the chunks and tokenizes them again; here they stay what they are.)

    Raises:
        PicoLMError: no domain has enough text for a chunk.
    """
    by_domain: dict[str, list[Document]] = {}
    for document in documents:
        by_domain.setdefault(document.domain, []).append(document)
    texts: list[Text] = []
    for domain, own in sorted(by_domain.items()):
        order = generator(seed, "tinsy documents", domain).permutation(len(own)).tolist()
        cut: list[IntArray] = []
        for start in range(0, len(order), _DOCUMENTS_AT_ONCE):
            some = [own[place].text for place in order[start : start + _DOCUMENTS_AT_ONCE]]
            cut += _chunks(encode(tokenizer, some), tokenizer.separator_id, window)
        drawn = generator(seed, "tinsy chunks", domain).permutation(len(cut))[:chunks]
        texts += [Text(cut[place], domain, None, None) for place in drawn.tolist()]
    if not texts:
        raise PicoLMError(f"no domain has enough text for a chunk of {window} tokens: choose a smaller window")
    return texts


def _chunks(encoded: Iterable[IntArray], separator: int, window: int) -> list[IntArray]:
    stream = np.concatenate([np.append(ids, separator) for ids in encoded])
    return [stream[start : start + window] for start in range(0, len(stream) - window + 1, window)]


AnyText = TypeVar("AnyText", bound=Text)


def limited(texts: Sequence[AnyText], tokens_per_domain: int) -> list[AnyText]:
    """Take the texts of each domain, in keyed order, while they fit; the first always is."""
    order = generator(0, "evaluation texts").permutation(len(texts)).tolist()
    left: dict[str, int] = {}
    chosen: list[int] = []
    for place in order:
        text = texts[place]
        room = left.get(text.domain)
        if room is None or room - len(text.tokens) >= 0:
            left[text.domain] = (tokens_per_domain if room is None else room) - len(text.tokens)
            chosen.append(place)
        else:
            left[text.domain] = -1
    return [texts[place] for place in sorted(chosen)]
