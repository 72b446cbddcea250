"""What a prepared directory says about itself: `manifest.json`, format 1.

manifest.json            this
tokenizer.json ...       what the tokens mean
train/tokens-00000.bin   little-endian ids: separator, document, separator, document, separator, ...
train/tags-00000.bin     uint8 beside each token where any document has parts of speech: 0, or 1 + index in `tag_names`
train/offsets.npy        int64 [documents + 1]: the first token of each document; the last entry is the end
train/documents.parquet  id, domain, source, bytes, characters, metadata (a JSON string)
validation/...           the same
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_json
from picolm.text.document import JSON

FORMAT = 1
KIND = "picolm-data"
FILE = "manifest.json"

SplitName = Literal["train", "validation"]
SPLITS: tuple[SplitName, ...] = ("train", "validation")
TOKEN_TYPES = ("uint16", "uint32")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the directory: `file` is its path from there."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of token ids, or of the tags beside them."""

    file: str
    tokens: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DocumentsTable:
    """`documents.parquet`; `rows_sha256` hashes its rows, whatever version of Parquet wrote them."""

    file: str
    bytes: int
    sha256: str
    rows_sha256: str


@dataclass(frozen=True, slots=True)
class DomainCounts:
    """How much of a split belongs to a domain: `tokens` with one separator per document, `bytes` of UTF-8 text."""

    documents: int
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SplitManifest:
    """One split: `tokens` counts the whole stream, the separator at its start included; `tags` may be empty."""

    tokens: int
    documents: int
    shards: tuple[Shard, ...]
    domains: Mapping[str, DomainCounts]
    offsets: StoredFile
    documents_table: DocumentsTable
    tags: tuple[Shard, ...] = ()

    def files(self) -> tuple[StoredFile | Shard | DocumentsTable, ...]:
        """All files of the split."""
        return (*self.shards, *self.tags, self.offsets, self.documents_table)

    def content(self) -> dict[str, JSON]:
        """What the fingerprint covers: nothing that depends on names, times or library versions."""
        return {
            "shards": [shard.sha256 for shard in self.shards],
            "offsets": self.offsets.sha256,
            "documents": self.documents_table.rows_sha256,
            **({"tags": [shard.sha256 for shard in self.tags]} if self.tags else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SplitManifest:
        """Rebuild from the manifest; raises KeyError, TypeError or ValueError where it is damaged."""
        return cls(
            tokens=int(value["tokens"]),
            documents=int(value["documents"]),
            shards=tuple(Shard(**shard) for shard in value["shards"]),
            domains={str(name): DomainCounts(**counts) for name, counts in value["domains"].items()},
            offsets=StoredFile(**value["offsets"]),
            documents_table=DocumentsTable(**value["documents_table"]),
            tags=tuple(Shard(**shard) for shard in value.get("tags", ())),
        )


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What was read of a source: how many documents, and a hash of their texts in order."""

    name: str
    documents: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TokenizerRecord:
    """The tokenizer that made the tokens."""

    fingerprint: str
    vocab_size: int
    separator: str
    separator_id: int
    pad_id: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A prepared directory's description of itself.

    Attributes:
        token_type: `uint16` or `uint32`.
        tokenizer: identity and special ids.
        settings: all that determined the content: sources by SHA-256, fields, rules, tokenizer settings.
        splits: `train` and `validation`.
        dropped_documents: how many had no text.
        sources_read: what the sources held, in order: for a stream, the only proof of what was read.
        tag_names: what the numbers from 1 beside the tokens mean; empty where the tokens have no tags.
    """

    token_type: str
    tokenizer: TokenizerRecord
    settings: dict[str, JSON]
    splits: Mapping[SplitName, SplitManifest]
    dropped_documents: int
    sources_read: tuple[SourceRecord, ...] = ()
    tag_names: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content only: equal wherever, whenever and from whichever paths it was prepared."""
        content = {name: split.content() for name, split in self.splits.items()}
        return sha256_of_json(
            {"splits": content, "token_type": self.token_type, "tokenizer": self.tokenizer.fingerprint}
        )

    def to_json(self) -> str:
        """Return the text of `manifest.json`."""
        value = {"format": FORMAT, "kind": KIND, "fingerprint": self.fingerprint, **asdict(self)}
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read and check `manifest.json`.

        Raises:
            PicoLMError: the directory was not prepared by PicoLM, or by a newer one, or the manifest is damaged.
        """
        path = directory / FILE
        advice = "make one with `picolm data prepare`"
        if not directory.is_dir():
            raise PicoLMError(f"there is no prepared directory {directory}; {advice}")
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise PicoLMError(f"{directory} is not a prepared directory: it has no {FILE}; {advice}") from error
        except (ValueError, RecursionError) as error:
            raise PicoLMError(f"{path} is damaged: it is not JSON ({error}); prepare the data again") from error
        if not isinstance(value, dict) or value.get("kind") != KIND:
            raise PicoLMError(f"{path} does not describe prepared data (kind: {KIND}); {advice}")
        found = value.get("format")
        if not isinstance(found, int) or found > FORMAT:
            raise PicoLMError(f"{path} has format {found}, this PicoLM reads up to {FORMAT}: upgrade picolm")
        try:
            manifest = cls._from_json(value)
            manifest._check(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise PicoLMError(f"{path} is damaged: {reason}; prepare the data again") from error
        return manifest

    @classmethod
    def _from_json(cls, value: Mapping[str, Any]) -> Manifest:
        return cls(
            token_type=value["token_type"],
            tokenizer=TokenizerRecord(**value["tokenizer"]),
            settings=dict(value["settings"]),
            splits={name: SplitManifest.from_json(value["splits"][name]) for name in SPLITS},
            dropped_documents=int(value["dropped_documents"]),
            sources_read=tuple(SourceRecord(**source) for source in value.get("sources_read", ())),
            tag_names=tuple(value.get("tag_names", ())),
        )

    def _check(self, value: Mapping[str, Any]) -> None:
        """Raise ValueError where the parts contradict each other."""
        if self.token_type not in TOKEN_TYPES:
            raise ValueError(f"token_type {self.token_type} is none of {', '.join(TOKEN_TYPES)}")
        width = int(self.token_type.removeprefix("uint")) // 8
        for name, split in self.splits.items():
            for file in split.files():
                path = PurePosixPath(file.file)
                if path.is_absolute() or ".." in path.parts or "\\" in file.file or ":" in file.file:
                    raise ValueError(f"the path '{file.file}' leads out of the directory")
            if any(shard.bytes != shard.tokens * width for shard in split.shards):
                raise ValueError(f"a shard of {name} is not {width} bytes per token")
            if sum(shard.tokens for shard in split.shards) != split.tokens:
                raise ValueError(f"the shards of {name} do not add up to {split.tokens} tokens")
            # One byte a token, in shards that end where those of the tokens do; none without names for them.
            if [tags.bytes for tags in split.tags] != [s.tokens for s in split.shards if self.tag_names]:
                raise ValueError(f"the tags of {name} do not fit its tokens")
            if sum(counts.documents for counts in split.domains.values()) != split.documents:
                raise ValueError(f"the domains of {name} do not add up to {split.documents} documents")
        if value.get("fingerprint") != self.fingerprint:
            raise ValueError("its fingerprint is not that of its content")
