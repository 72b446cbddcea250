"""Opening a prepared directory: nothing is read from it before it is what its manifest says."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from picolm.data.manifest import SPLITS, Manifest, SplitName
from picolm.data.split import Split
from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_file
from picolm.text.tokenizer import Tokenizer


class TokenData:
    """A prepared directory: tokens, documents and the tokenizer that made them.

    Attributes:
        directory: where it lies.
        manifest: what it says about itself.
        fingerprint: hash of its content; equal content has an equal fingerprint wherever it lies.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest
        self.fingerprint = manifest.fingerprint
        self._splits = {name: Split(directory, name, manifest) for name in SPLITS}

    @classmethod
    def open(cls, directory: str | Path, *, verify: Literal["hashes", "sizes"] = "hashes") -> TokenData:
        """Open a directory that `prepare` made.

        Args:
            directory: with `manifest.json`.
            verify: `hashes` reads every byte once (about 1 GB/s); `sizes` only asks the file system.

        Raises:
            PicoLMError: it is not a prepared directory, a newer PicoLM made it, or a file is missing or changed.
        """
        root = Path(directory).expanduser()
        manifest = Manifest.read(root)
        for split in manifest.splits.values():
            for file in split.files():
                _check(root / file.file, file.bytes, file.sha256 if verify == "hashes" else None)
        return cls(root, manifest)

    def split(self, name: SplitName) -> Split:
        """Return `train` or `validation`."""
        return self._splits[name]

    def tokenizer(self) -> Tokenizer:
        """Load the tokenizer, which must be the one that made the tokens."""
        record = self.manifest.tokenizer
        tokenizer = Tokenizer.load(self.directory, record.separator)
        if tokenizer.fingerprint != record.fingerprint:
            raise PicoLMError(
                f"{self.directory / 'tokenizer.json'} is not the tokenizer that made the tokens beside it"
            )
        return tokenizer


def _check(path: Path, size: int, sha256: str | None) -> None:
    try:
        found = path.stat().st_size
        if found != size:
            raise PicoLMError(f"{path} has {found} bytes instead of {size}; prepare the data again")
        if sha256 is not None and sha256_of_file(path) != sha256:
            raise PicoLMError(f"{path} holds other bytes under the same name (its SHA-256 differs from the manifest's)")
    except FileNotFoundError as error:
        raise PicoLMError(f"{path} is missing from the prepared data; prepare it again") from error
    except OSError as error:
        raise PicoLMError(f"cannot read {path}: {error.strerror}") from error
