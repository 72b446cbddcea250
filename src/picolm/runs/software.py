"""Which code is running: versions of packages, commit and local changes of PicoLM's own sources."""

from __future__ import annotations

import hashlib
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "pydantic", "pyarrow")
_SOURCES = Path(__file__).resolve().parents[1]


def picolm_version() -> str:
    """Return the version of the installed PicoLM; ``"unknown"`` when it runs from sources that are not installed."""
    return _version("picolm") or "unknown"


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that decide about numbers, where installed; none is imported."""
    return {name: found for name in _PACKAGES if (found := _version(name))}


def source_state(sources: Path = _SOURCES) -> dict[str, str | None]:
    """Say which state of a git repository some sources are in.

    Args:
        sources: a directory of Python files; PicoLM's own by default.

    Returns:
        `commit`, and `diff_sha256`: a hash over what differs from it within `sources`, untracked files included.
        Both are None where the sources are not in a repository; `diff_sha256` is None when nothing differs.
    """
    # A repository that only happens to contain the installed package (a virtual environment in it) is not its source.
    if not _git(sources, "ls-files"):
        return {"commit": None, "diff_sha256": None}
    commit = _git(sources, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return {"commit": None, "diff_sha256": None}
    diff = _git(sources, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--", ".") or b""
    untracked = _git(sources, "ls-files", "--others", "--exclude-standard", "-z", "--", ".") or b""
    digest = hashlib.sha256(diff)
    for name in filter(None, untracked.split(b"\0")):
        digest.update(b"\0" + name + b"\0" + _content(sources / os.fsdecode(name)))
    return {"commit": commit.decode().strip(), "diff_sha256": digest.hexdigest() if diff or untracked else None}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        # A dangling link or a file that an editor just removed must not keep a run from starting.
        return b""


def _git(directory: Path, *arguments: str) -> bytes | None:
    # A git hook or an alias that starts a run sets GIT_DIR and the like, which would point at another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            check=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
