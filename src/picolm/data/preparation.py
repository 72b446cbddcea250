"""Sources -> a prepared directory, all of it or none of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from picolm.config import schema
from picolm.data.encoding import encode_all
from picolm.data.manifest import FILE, FORMAT, SPLITS, Manifest, SplitName, TokenizerRecord
from picolm.data.prepared import TokenData
from picolm.data.selection import Selection
from picolm.data.spool import Spool
from picolm.data.writing import SplitWriter
from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_json
from picolm.runs.durable import TakenError, committed_directory, discard_partials, explained
from picolm.text.document import JSON
from picolm.text.sources import Source, expand, place_of
from picolm.text.tagger import Tagger, load_tagger, tagger_sha256
from picolm.text.tagging import UPOS
from picolm.text.tokenizer import Tokenizer

# Below this much text a process takes longer to start than to work.
PARALLEL_BYTES = 8 * 2**20
_READ_AT_ONCE = 2**20


class Progress(Protocol):
    """Told how far a preparation is.

    Args:
        phase: `reading`, `training the tokenizer` or `tokenizing`, in this order.
        done: bytes, of the sources in the first phase, of text in the others.
        total: how many there are.
    """

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take note; called often, so do little."""


def prepare(
    data: schema.Data, tokenizer: schema.Tokenizer, out: Path, *, progress: Progress | None = None
) -> TokenData:
    """Read, split and tokenize sources into a directory that appears only when it is complete.

    Args:
        data: sources, fields, what is held out, number of processes.
        tokenizer: trained on the training documents only, or loaded.
        out: the directory to make. One that holds the same already is opened and left alone.
        progress: told how far it is.

    Raises:
        PicoLMError: the sources or the tokenizer are not usable, or `out` holds something else.
    """
    return _Preparation(data, tokenizer, progress or _silent).run(out.expanduser())


def cached(data: schema.Data, tokenizer: schema.Tokenizer, *, progress: Progress | None = None) -> TokenData:
    """Prepare sources below `data.cache`, or open what an earlier run prepared from the same.

    Args:
        data: as for `prepare`.
        tokenizer: as for `prepare`.
        progress: told how far it is, where there is something to do.
    """
    preparation = _Preparation(data, tokenizer, progress or _silent)
    key = sha256_of_json({"format": FORMAT, "settings": preparation.settings})[:20]
    return preparation.run(Path(data.cache).expanduser() / key)


class _Preparation:
    def __init__(self, data: schema.Data, tokenizer: schema.Tokenizer, progress: Progress) -> None:
        self._data, self._tokenizer, self._progress = data, tokenizer, progress
        self._sources, self._held_out = expand(data.sources), expand(data.validation_sources)
        _refuse_overlap(self._sources, self._held_out)
        self.settings: dict[str, JSON] = {
            "sources": _identities(self._sources),
            "validation_sources": _identities(self._held_out),
            # Validation sources replace the fraction: it then determines nothing.
            "validation_fraction": None if self._held_out else data.validation_fraction,
            "text_field": data.text_field,
            "domain_field": data.domain_field,
            "txt_documents": data.txt_documents,
            "tagger": None if data.tagger is None else tagger_sha256(data.tagger),
            "tokenizer": _tokenizer_settings(tokenizer),
        }

    def run(self, out: Path) -> TokenData:
        is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
        if is_free:
            discard_partials(out.parent)
            # Another process may make the same meanwhile; whoever comes second takes what is there.
            with suppress(TakenError):
                with committed_directory(out) as directory, explained(out):
                    self._write(directory)
                # What was hashed while it was written need not be hashed again.
                return TokenData.open(out, verify="sizes")
        self._refuse_other(out)
        return TokenData.open(out, verify=self._data.verify)

    def _refuse_other(self, out: Path) -> None:
        if not (out / FILE).is_file():
            raise PicoLMError(f"{out} exists and is not prepared data: choose another --out")
        found = Manifest.read(out).settings
        differing = [name for name, value in self.settings.items() if found.get(name) != value]
        if differing:
            raise PicoLMError(
                f"{out} was prepared with other settings ({', '.join(differing)}) and is never overwritten: "
                "choose another --out"
            )

    def _write(self, directory: Path) -> None:
        with Spool(directory) as spool:
            manifest = self._write_splits(directory, spool)
        (directory / FILE).write_bytes(manifest.to_json().encode())

    def _write_splits(self, directory: Path, spool: Spool) -> Manifest:
        selection = Selection(
            self._sources,
            self._held_out,
            self._data,
            spool,
            lambda done, total: self._progress("reading", done, total),
        )
        tokenizer = Tokenizer.from_config(self._tokenizer, self._training_texts(spool, selection))
        tokenizer.save(directory, max_length=None)
        tagger = None if self._data.tagger is None else load_tagger(self._data.tagger)
        tag_names = tagger.names if tagger is not None else UPOS if spool.has_tags else ()
        token_type = "uint16" if tokenizer.vocab_size <= 2**16 else "uint32"
        writers = {
            name: SplitWriter(directory, name, tokenizer.separator_id, token_type, tagged=bool(tag_names))
            for name in SPLITS
        }
        try:
            self._tokenize(spool, selection, tokenizer, tagger, writers)
            splits = {name: writer.finish() for name, writer in writers.items()}
        finally:
            for writer in writers.values():
                writer.close()
        return Manifest(
            token_type=token_type,
            tokenizer=TokenizerRecord(
                tokenizer.fingerprint,
                tokenizer.vocab_size,
                tokenizer.separator,
                tokenizer.separator_id,
                tokenizer.pad_id,
            ),
            settings=self.settings,
            splits=splits,
            dropped_documents=selection.dropped,
            sources_read=tuple(selection.read),
            tag_names=tag_names,
        )

    def _training_texts(self, spool: Spool, selection: Selection) -> Iterator[str]:
        done = index = 0
        for chunk in spool.chunks(_READ_AT_ONCE):
            for text, size in zip(chunk.texts(), chunk.sizes, strict=True):
                if not selection.validation[index]:
                    yield text
                    done += size
                    self._progress("training the tokenizer", done, selection.n_training_bytes)
                index += 1

    def _tokenize(
        self,
        spool: Spool,
        selection: Selection,
        tokenizer: Tokenizer,
        tagger: Tagger | None,
        writers: Mapping[SplitName, SplitWriter],
    ) -> None:
        done = 0
        workers = _workers(self._data.preparation_workers, selection.n_bytes)
        encoded = encode_all(spool, tokenizer, workers, tagger)
        for facts, held_out, (ids, tags) in zip(spool.facts(), selection.validation.tolist(), encoded, strict=True):
            writers["validation" if held_out else "train"].add(facts, ids, tags)
            done += facts.bytes
            self._progress("tokenizing", done, selection.n_bytes)


def _workers(wanted: int, n_bytes: int) -> int:
    if n_bytes < PARALLEL_BYTES:
        return 1
    return wanted or min(os.cpu_count() or 1, 1 + n_bytes // PARALLEL_BYTES)


def _identities(sources: Sequence[Source]) -> list[JSON]:
    return [{"name": source.name, "size": source.size, "sha256": source.sha256()} for source in sources]


def _tokenizer_settings(config: schema.Tokenizer) -> dict[str, JSON]:
    if config.path is not None:
        loaded = Tokenizer.load(config.path, config.separator)
        return {"kind": config.kind, "fingerprint": loaded.fingerprint, "separator": loaded.separator}
    return {"kind": config.kind} | ({"vocab_size": config.vocab_size} if config.kind == "bpe" else {})


def _refuse_overlap(sources: Sequence[Source], held_out: Sequence[Source]) -> None:
    training = {place_of(source) for source in sources}
    for source in held_out:
        if place_of(source) in training:
            raise PicoLMError(f"{source} is both in data.sources and in data.validation_sources: leave it in one")


def _silent(phase: str, done: int, total: int) -> None:
    """Report to nobody."""
