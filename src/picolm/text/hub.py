"""Hugging Face datasets, from the hub or from a local folder, streamed through the `datasets` library.

`hf:NAME[:CONFIG][@SPLIT]`, for example `hf:roneneldan/TinyStories@validation` or `hf:./my_folder`. Only data files are
read: `datasets` 4 and later run no script of a dataset, and older ones are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from picolm.config.schema import Data
from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_file, sha256_of_json
from picolm.text.document import Document
from picolm.text.records import document_of, plain

PREFIX = "hf:"
_INSTALL = "pip install 'picolm[datasets]'"
_PINNED = re.compile(r"hf://datasets/[^@]+@([0-9a-f]{40})/")
_FORM = re.compile(r"hf:(?P<repository>[^:@]+)(?::(?P<configuration>[^:@/]+))?(?:@(?P<split>[\w.-]+))?")


@dataclass(frozen=True, slots=True)
class HubDataset:
    """One split of a dataset.

    Attributes:
        repository: `owner/name` on the hub, or the path of a local folder of data files.
        configuration: which of the dataset's configurations; None: its default.
        split: the name of the split.
    """

    repository: str
    configuration: str | None
    split: str

    @classmethod
    def parse(cls, source: str) -> HubDataset:
        """Read `hf:NAME[:CONFIG][@SPLIT]`.

        Raises:
            PicoLMError: it has another form.
        """
        match = _FORM.fullmatch(source)
        if match is None:
            raise PicoLMError(
                f"'{source}' does not name a dataset: write hf:NAME[:CONFIG][@SPLIT] or hf:./folder[@SPLIT]"
            )
        return cls(match["repository"], match["configuration"], match["split"] or "train")

    @property
    def is_local(self) -> bool:
        """Whether it lies in a folder of this machine."""
        return Path(self.repository).expanduser().is_dir()

    @property
    def stem(self) -> str:
        """The name without its owner or folder: the domain of documents that do not name their own."""
        return Path(self.repository).name

    @property
    def name(self) -> str:
        """What document ids, tables and manifests say: never where a folder lies on this machine."""
        repository = self.stem if self.is_local else self.repository
        return f"{PREFIX}{repository}{f':{self.configuration}' if self.configuration else ''}@{self.split}"

    @property
    def size(self) -> int:
        """0: how much a stream holds is not known before it is read."""
        return 0

    def sha256(self) -> str:
        """Return the hash of its data files: of their bytes in a folder, of their pinned revision on the hub."""
        found = _data_files(self)
        # A folder's files are hashed anew each time; what is on the hub under a commit never changes.
        return sha256_of_json([sha256_of_file(Path(file)) if Path(file).is_file() else file for file in found])

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}{f':{self.configuration}' if self.configuration else ''}@{self.split}"


def read_dataset(source: HubDataset, data: Data) -> Iterator[Document]:
    """Stream the documents of a dataset: one a record.

    Args:
        source: which split.
        data: names the text and domain fields.

    Raises:
        PicoLMError: `datasets` is not installed, the dataset cannot be reached, has no such split or configuration, or
            a record has no text; named by record.
    """
    number = 0
    for number, record in enumerate(_records(source), start=1):
        yield document_of(
            {str(key): plain(value) for key, value in record.items()},
            data,
            id=f"{source.name}:{number}",
            domain=source.stem,
            place=f"{source}, record {number}",
        )
    if not number:
        raise PicoLMError(f"{source} is empty: it has no records")


def _records(source: HubDataset) -> Iterator[Mapping[str, Any]]:
    datasets = _library(source)
    revision = revision_of(_data_files(source))
    try:
        yield from datasets.load_dataset(
            _place(source), source.configuration, split=source.split, streaming=True, revision=revision
        )
    except Exception as error:  # any of its many backends' errors can come through
        raise _explained(source, error) from error


def revision_of(files: Sequence[str]) -> str | None:
    """The commit of the hub's data files: what is read must be what was hashed. None for local files."""
    return next((match[1] for file in files if (match := _PINNED.match(file))), None)


def _data_files(source: HubDataset) -> tuple[str, ...]:
    # A folder can change while we run; what the hub has is looked up once, so that one commit is hashed and read.
    return _resolve(source) if source.is_local else _resolve_once(source)


def _resolve(source: HubDataset) -> tuple[str, ...]:
    datasets = _library(source)
    try:
        builder = datasets.load_dataset_builder(_place(source), source.configuration)
    except Exception as error:  # any of its many backends' errors can come through
        raise _explained(source, error) from error
    files = builder.config.data_files or {}
    if source.split not in files:
        has = ", ".join(map(str, files)) or "no data files"
        raise PicoLMError(f"{source} has no split '{source.split}'; it has {has}")
    return tuple(str(file) for file in files[source.split])


_resolve_once = cache(_resolve)


def _place(source: HubDataset) -> str:
    return str(Path(source.repository).expanduser()) if source.is_local else source.repository


def _library(source: HubDataset) -> ModuleType:
    # It says how far it is on standard error, which is ours.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    try:
        import datasets
    except ImportError as error:
        raise PicoLMError(f"{source} needs the package `datasets`: {_INSTALL}") from error
    if int(datasets.__version__.split(".")[0]) < 4:
        raise PicoLMError(f"{source} needs `datasets` 4 or newer, which runs no code of a dataset: {_INSTALL}")
    module: ModuleType = datasets
    return module


def _explained(source: HubDataset, error: Exception) -> PicoLMError:
    if isinstance(error, PicoLMError):
        return error
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    advice = ""
    if isinstance(error, ConnectionError) or "Offline" in type(error).__name__:
        advice = "; a dataset of the hub needs a network, one that lies here is hf:./folder"
    elif "save_to_disk" in reason:
        advice = "; export it as Parquet (`dataset.to_parquet`) and name that file"
    return PicoLMError(f"cannot read {source}: {reason}{advice}")
