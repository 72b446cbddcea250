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
from picolm.data.writing import SplitWriter
from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_json
from picolm.runs.durable import TakenError, committed_directory, discard_partials, explained
from picolm.text.document import JSON
from picolm.text.sources import SourceFile, expand
from picolm.text.tokenizer import Tokenizer

# Below this much text a process takes longer to start than to work.
PARALLEL_BYTES = 8 * 2**20


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
        selection = Selection(
            self._sources, self._held_out, self._data, lambda done, total: self._progress("reading", done, total)
        )
        tokenizer = Tokenizer.from_config(self._tokenizer, self._training_texts(selection))
        tokenizer.save(directory, max_length=None)
        token_type = "uint16" if tokenizer.vocab_size <= 2**16 else "uint32"
        writers = {name: SplitWriter(directory, name, tokenizer.separator_id, token_type) for name in SPLITS}
        try:
            self._tokenize(selection, tokenizer, writers)
            splits = {name: writer.finish() for name, writer in writers.items()}
        finally:
            for writer in writers.values():
                writer.close()
        manifest = Manifest(
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
        )
        (directory / FILE).write_bytes(manifest.to_json().encode())

    def _training_texts(self, selection: Selection) -> Iterator[str]:
        done = 0
        for document, _, _ in selection.documents(only_training=True):
            yield document.text
            done += len(document.text.encode())
            self._progress("training the tokenizer", done, selection.n_training_bytes)

    def _tokenize(self, selection: Selection, tokenizer: Tokenizer, writers: Mapping[SplitName, SplitWriter]) -> None:
        done = 0
        workers = _workers(self._data.preparation_workers, selection.n_bytes)
        encoded = encode_all(selection.documents(), lambda item: item[0].text, tokenizer, workers)
        for (document, source, held_out), ids in encoded:
            writers["validation" if held_out else "train"].add(document, source.name, ids)
            done += len(document.text.encode())
            self._progress("tokenizing", done, selection.n_bytes)


def _workers(wanted: int, n_bytes: int) -> int:
    if n_bytes < PARALLEL_BYTES:
        return 1
    return wanted or min(os.cpu_count() or 1, 1 + n_bytes // PARALLEL_BYTES)


def _identities(sources: Sequence[SourceFile]) -> list[JSON]:
    return [{"name": source.name, "size": source.size, "sha256": source.sha256()} for source in sources]


def _tokenizer_settings(config: schema.Tokenizer) -> dict[str, JSON]:
    if config.path is not None:
        loaded = Tokenizer.load(config.path, config.separator)
        return {"kind": config.kind, "fingerprint": loaded.fingerprint, "separator": loaded.separator}
    return {"kind": config.kind} | ({"vocab_size": config.vocab_size} if config.kind == "bpe" else {})


def _refuse_overlap(sources: Sequence[SourceFile], held_out: Sequence[SourceFile]) -> None:
    training = {source.origin for source in sources}
    for source in held_out:
        if source.origin in training:
            raise PicoLMError(f"{source} is both in data.sources and in data.validation_sources: leave it in one")


def _silent(phase: str, done: int, total: int) -> None:
    """Report to nobody."""
