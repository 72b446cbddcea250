"""A few rows of text that are drawn once and looked at again and again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from picolm.config import schema
from picolm.data.packing import Packing
from picolm.data.permutation import KeyedPermutation
from picolm.data.rows import documents_of, padded_rows
from picolm.data.split import Split
from picolm.errors import PicoLMError, nearest
from picolm.text.document import Document
from picolm.text.reading import read_documents
from picolm.text.sources import expand
from picolm.text.tokenizer import Tokenizer

Int64Array = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class ProbeRows:
    """Documents end to end between separators, cut into rows that overlap by one; padded at the end of the last row."""

    tokens: Int64Array
    """[R, T + 1]."""
    valid: Int64Array
    """[R]: how many tokens of each row are not padding."""
    documents: Int64Array
    """[R, T + 1]: each token's document, -1 for padding: its number in the held-out split, or among the documents read
    from sources."""
    tags: Int64Array | None = None
    """[R, T + 1]: parts of speech as `Split.tags`, 0 for padding; None where the data have none."""

    @property
    def arrays(self) -> Mapping[str, Int64Array]:
        """Those that are there, by name."""
        named = {"tokens": self.tokens, "valid": self.valid, "documents": self.documents, "tags": self.tags}
        return {name: array for name, array in named.items() if array is not None}


def held_out_rows(split: Split, length: int, n_rows: int, domain: str | None = None) -> ProbeRows:
    """Take held-out documents, those of each domain in a fixed keyed order, the domains in turn.

    Args:
        split: usually `validation`.
        length: predictions per row, T.
        n_rows: at most; fewer where the documents do not fill them.
        domain: take this one's documents only; None: those of all.

    Raises:
        PicoLMError: there is no such domain.
    """
    domains = sorted(split.domains) if domain is None else [domain]
    # The rounds are dealt like cards; None stands where a domain has no document left.
    rounds = zip_longest(*(_shuffled(split, name).tolist() for name in domains))
    order = np.array([document for document in chain.from_iterable(rounds) if document is not None], dtype=np.int64)
    enough = int(np.searchsorted(np.cumsum(split.document_lengths(order)), n_rows * length)) + 1
    packing = Packing(split, order[:enough])
    end = min(packing.n_tokens, n_rows * length + 1)
    return ProbeRows(
        tokens=padded_rows(packing.tokens(0, end), length, split.pad_id),
        valid=_valid(end, length),
        documents=padded_rows(packing.documents(0, end), length, -1),
        tags=padded_rows(packing.tags(0, end), length, 0) if split.tag_names else None,
    )


def source_rows(
    data: schema.Data, tokenizer: Tokenizer, probe: schema.Probe, *, pad_id: int, name: str = "probe"
) -> ProbeRows:
    """Take documents of a probe's own sources, the sources in turn, each from its beginning.

    Args:
        data: how documents are read, and the length of a row.
        tokenizer: the run's.
        probe: names the sources, the domain and the number of rows.
        pad_id: what fills up the last row.
        name: of the probe, for errors.

    Raises:
        PicoLMError: a source cannot be read, or has no document of the domain.
    """
    length, wanted = data.sequence_length, probe.sequences * data.sequence_length + 1
    stream, numbers, seen = [np.array([tokenizer.separator_id])], [0], set()
    for number, document in enumerate(_in_turn(probe.sources, data)):
        seen.add(document.domain)
        if probe.domain in (None, document.domain):
            ids = tokenizer.encode(document.text)
            stream += [ids, np.array([tokenizer.separator_id])]
            numbers += [number] * (len(ids) + 1)
        if len(numbers) >= wanted:
            break
    if len(stream) == 1:
        raise PicoLMError(
            f"capture.probes.{name}: the sources have no documents"
            + ("" if probe.domain is None else f" of the domain '{probe.domain}'{nearest(probe.domain, seen)}")
        )
    # The first separator counts to the first document, as in a split.
    numbers[0] = numbers[1]
    tokens, documents = np.concatenate(stream)[:wanted], np.array(numbers, dtype=np.int64)[:wanted]
    return ProbeRows(
        tokens=padded_rows(tokens, length, pad_id),
        valid=_valid(len(tokens), length),
        documents=padded_rows(documents, length, -1),
    )


def _shuffled(split: Split, domain: str) -> Int64Array:
    found = documents_of(split, domain)
    return found[KeyedPermutation(len(found), "probe", domain)(np.arange(len(found)))]


def _valid(n_tokens: int, length: int) -> Int64Array:
    return np.minimum(length + 1, n_tokens - np.arange(0, n_tokens - 1, length))


def _in_turn(sources: tuple[str, ...], data: schema.Data) -> Iterator[Document]:
    readers: list[Iterator[Document]] = [iter(read_documents(source, data)) for source in expand(sources)]
    while readers:
        going_on = []
        for reader in readers:
            document = next(reader, None)
            if document is not None:
                yield document
                going_on.append(reader)
        readers = going_on
