"""The manifest of a directory: every file with its size and SHA-256."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_file
from picolm.runs.durable import write_json

MANIFEST = "manifest.json"
FORMAT = 1
SUPERSEDED = "superseded"
"""Where a manifest names folders that were removed because newer ones took their place."""


class DamagedManifestError(PicoLMError):
    """A manifest is missing, torn or says what no manifest may say."""


def write_manifest(directory: Path, **facts: Any) -> None:
    """Write `manifest.json` over all files that are in a directory now.

    Args:
        directory: what to describe; subdirectories included.
        **facts: JSON values that stand beside the list of files, for example ``step=1000``.
    """
    assert not {"format", "files"} & facts.keys(), "these two keys are the manifest's own"
    files = {
        name: {"bytes": (directory / name).stat().st_size, "sha256": sha256_of_file(directory / name)}
        for name in _file_names(directory)
    }
    write_json(directory / MANIFEST, {"format": FORMAT, **facts, "files": files})


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read and check the form of a manifest; the files that it names are not touched.

    Raises:
        DamagedManifestError: it is missing, is not JSON, or names a file outside the directory.
        PicoLMError: a newer PicoLM wrote it.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DamagedManifestError(f"{directory} has no {MANIFEST}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedManifestError(f"{path} cannot be read: {error}") from error
    if not isinstance(manifest, dict):
        raise DamagedManifestError(f"{path} is not a manifest")
    check_format(path, manifest, FORMAT)
    files = manifest.get("files")
    if manifest.get("format") != FORMAT or not isinstance(files, dict):
        raise DamagedManifestError(f"{path} is not a manifest: it must hold format {FORMAT} and a table of files")
    for name, entry in files.items():
        _check_entry(path, name, entry)
    return manifest


def verify(directory: Path, *, hashes: bool = True) -> list[str]:
    """Compare a directory with its manifest: names, sizes and SHA-256 of every file.

    Args:
        directory: what has a manifest.
        hashes: whether every byte is read; else only names and sizes are compared.

    Returns:
        One sentence for each damage; empty when the directory is whole.

    Raises:
        PicoLMError: a newer PicoLM wrote the manifest.
    """
    try:
        manifest = read_manifest(directory)
    except DamagedManifestError as error:
        return [str(error)]
    files, gone = manifest["files"], tuple(f"{folder}/" for folder in manifest.get(SUPERSEDED, ()))
    # What is superseded may be there still, where a process was killed before it was removed.
    present = {name for name in _file_names(directory) if not name.startswith(gone)}
    damage = [sentence for name in sorted(files) if (sentence := _damage(directory / name, files[name], hashes))]
    return damage + [f"{directory / name} is not in the manifest" for name in sorted(present - files.keys())]


def without(directory: Path, folder: str) -> dict[str, Any]:
    """The manifest that a directory will have when one of its folders is superseded."""
    manifest = read_manifest(directory)
    files = {name: entry for name, entry in manifest["files"].items() if not name.startswith(f"{folder}/")}
    return {**manifest, SUPERSEDED: [*manifest.get(SUPERSEDED, []), folder], "files": files}


def check_format(path: Path, content: dict[str, Any], known: int) -> None:
    """Refuse a file whose `format` is newer than what this version knows.

    Raises:
        PicoLMError: the format is newer.
    """
    found = content.get("format")
    if isinstance(found, int) and found > known:
        raise PicoLMError(f"{path} has format {found}, this PicoLM reads up to {known}: upgrade PicoLM to read it")


def _check_entry(path: Path, name: str, entry: Any) -> None:
    parts = PurePosixPath(name).parts
    # A backslash or a drive would be harmless here and a way out on another system.
    if not parts or ".." in parts or name.startswith("/") or "\\" in name or ":" in parts[0] or "\0" in name:
        raise DamagedManifestError(f"{path} names a file outside its directory: {name!r}")
    if not (isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)):
        raise DamagedManifestError(f"{path} says neither the size nor the SHA-256 of {name!r} as it must")


def _damage(file: Path, entry: dict[str, Any], hashes: bool) -> str | None:
    try:
        size = file.stat().st_size
        if not file.is_file():
            return f"{file} is not a file"
        if size != entry["bytes"]:
            return f"{file} has {size} bytes, the manifest says {entry['bytes']}"
        if hashes and sha256_of_file(file) != entry["sha256"]:
            return f"{file} was changed: its SHA-256 is not the one in the manifest"
    except FileNotFoundError:
        return f"{file} is missing"
    except OSError as error:
        return f"{file} cannot be read: {error.strerror or error}"
    return None


def _file_names(directory: Path) -> list[str]:
    names = (path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir())
    return sorted(name for name in names if name != MANIFEST)
