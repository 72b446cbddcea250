"""Fingerprints: SHA-256 of files and of JSON values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def canonical_json(value: object) -> str:
    """Return the one spelling of a JSON value: sorted keys, no white space, ASCII; what is hashed.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot say.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_of_bytes(data: bytes) -> str:
    """Hash bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_json(value: object) -> str:
    """Hash the canonical spelling of a JSON value."""
    return sha256_of_bytes(canonical_json(value).encode())


def sha256_of_file(path: Path) -> str:
    """Hash a file's bytes, streaming."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
