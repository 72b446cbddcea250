"""The one pass over the sources: setting documents aside, and choosing those that are held out."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from picolm.config.schema import Data
from picolm.data.manifest import SourceRecord
from picolm.data.spool import Spool
from picolm.errors import PicoLMError
from picolm.text.reading import read_documents
from picolm.text.sources import Source, SourceFile

_DIGEST_BYTES = 16


class Selection:
    """Which documents are held out: those of the validation sources, else some of each domain.

    Of each domain the share `validation_fraction` of its distinct texts, at least one, is held out: those whose
    BLAKE2b hash is smallest. So the choice depends neither on seeds nor on the order of documents, a new document
    displaces at most one other, and copies of a text are never on both sides. A domain with one text is not split.

    Args:
        sources: what is trained on, and split unless validation sources are given.
        validation_sources: what is held out.
        data: fields, rules and the fraction.
        spool: where the documents are set aside as they are read.
        progress: told how many bytes of the sources were read, and of how many.

    Attributes:
        read: for each source, what it turned out to hold.
        validation: bool [documents]: whether each is held out, in the order of `sources`, then `validation_sources`.
        dropped: how many documents were left out because they had no text.
        n_bytes: UTF-8 bytes of all documents.
        n_training_bytes: of those that are not held out.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        validation_sources: Sequence[Source],
        data: Data,
        spool: Spool,
        progress: Callable[[int, int], None],
    ) -> None:
        self.dropped = 0
        self.read: list[SourceRecord] = []
        self._sources, self._data, self._spool = (*sources, *validation_sources), data, spool
        self._domains: dict[str, int] = {}
        self._domain_of = array("i")
        self._digests = bytearray()
        total = sum(source.size for source in self._sources)
        n_of_sources = read_before = 0
        for index, source in enumerate(self._sources):
            if index == len(sources):
                n_of_sources = len(self._domain_of)
            self._read(source, partial(_report, progress, read_before, total))
            read_before += source.size
        progress(total, total)
        if validation_sources:
            self.validation = np.arange(len(self._domain_of)) >= n_of_sources
        else:
            self.validation = self._smallest(data.validation_fraction)
        sizes = spool.sizes
        self.n_bytes = int(sizes.sum())
        self.n_training_bytes = int(sizes[~self.validation].sum())
        self._check(bool(validation_sources))

    def _read(self, source: Source, progress: Callable[[int], None]) -> None:
        before, first = _state(source), len(self._domain_of)
        reader = read_documents(source, self._data)
        for document in reader:
            text = document.text.encode()
            self._spool.add(document, source.name, text)
            self._digests += hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()
            self._domain_of.append(self._domains.setdefault(document.domain, len(self._domains)))
            progress(reader.bytes_read)
        if _state(source) != before:
            raise PicoLMError(f"{source} was changed while it was read: start again when it is complete")
        self.dropped += reader.dropped
        of_source = memoryview(self._digests)[first * _DIGEST_BYTES :]
        self.read.append(SourceRecord(source.name, len(self._domain_of) - first, hashlib.sha256(of_source).hexdigest()))
        of_source.release()

    def _smallest(self, fraction: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
        # As big-endian 128-bit numbers, compared by their halves.
        halves = np.frombuffer(bytes(self._digests), dtype=">u8").reshape(-1, 2)
        domain_of = np.frombuffer(self._domain_of, dtype=np.int32)
        chosen = np.zeros(len(domain_of), dtype=bool)
        if fraction == 0.0:
            return chosen
        for domain in range(len(self._domains)):
            members = np.flatnonzero(domain_of == domain)
            distinct, text_of = np.unique(halves[members], axis=0, return_inverse=True)
            if len(distinct) >= 2:
                chosen[members] = text_of.ravel() < max(1, round(fraction * len(distinct)))
        return chosen

    def _check(self, has_validation_sources: bool) -> None:
        names = ", ".join(str(source) for source in self._sources)
        n_documents, n_held_out = len(self.validation), int(self.validation.sum())
        if not n_documents:
            raise PicoLMError(f"no document with text was found in {names}")
        if n_held_out == n_documents:
            raise PicoLMError(
                f"nothing would be left to train on: all {n_documents} documents of {names} would be held out; "
                "give data.sources with text or a smaller data.validation_fraction"
            )
        if not n_held_out and (has_validation_sources or self._data.validation_fraction > 0.0):
            found = (
                "1 document was" if n_documents == 1 else f"{n_documents} documents, one distinct text per domain, were"
            )
            if has_validation_sources:
                raise PicoLMError("the data.validation_sources hold no document with text")
            raise PicoLMError(
                f"no document can be held out for validation: {found} found in {names}; divide the text with "
                "data.txt_documents=paragraphs, name data.validation_sources, or set data.validation_fraction=0"
            )


def _report(progress: Callable[[int, int], None], before: int, total: int, read: int) -> None:
    progress(before + read, total)


def _state(source: Source) -> tuple[int, int]:
    path = source.path if isinstance(source, SourceFile) else None
    return (source.size, path.stat().st_mtime_ns if path else 0)
