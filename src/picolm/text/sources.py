"""What a source string means: a file, a folder, a glob, a Hugging Face dataset, or `embedded:<name>`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from picolm.errors import PicoLMError, nearest
from picolm.runs.digest import sha256_of_file
from picolm.text.hub import PREFIX, HubDataset

SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".parquet", ".conllu", ".conllu.gz")
_READ = f"PicoLM reads {', '.join(SUFFIXES[:-1])} and {SUFFIXES[-1]}"
_EMBEDDED = "embedded:"
_EMBEDDED_NAMES = ("english",)
_MAGIC = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of documents, or the embedded corpus.

    Attributes:
        path: where the file lies; None for the embedded corpus.
    """

    path: Path | None

    @property
    def name(self) -> str:
        """The file's name without its folder: what document ids, tables and manifests say."""
        return self.path.name if self.path else "embedded:english"

    @property
    def suffix(self) -> str:
        """One of `SUFFIXES`; empty for the embedded corpus."""
        return _suffix(self.path) if self.path else ""

    @property
    def stem(self) -> str:
        """The name without suffix: the domain of documents that do not name their own."""
        return self.name.removesuffix(self.suffix) if self.path else "english"

    @property
    def size(self) -> int:
        """Bytes of the file, as stored; bytes of text for the embedded corpus."""
        if self.path:
            return self.path.stat().st_size
        from picolm.text import grammar

        return grammar.CORPUS_BYTES

    def sha256(self) -> str:
        """Return the SHA-256 of the file's bytes; of the documents for the embedded corpus."""
        if self.path:
            try:
                return sha256_of_file(self.path)
            except OSError as error:
                raise PicoLMError(f"cannot read {self.path}: {error.strerror}") from error
        from picolm.text import grammar

        return grammar.CORPUS_SHA256

    def __str__(self) -> str:
        return str(self.path) if self.path else self.name


Source = SourceFile | HubDataset


def expand(sources: Sequence[str]) -> list[Source]:
    """Find what source strings mean.

    Args:
        sources: each a path to a file with one of `SUFFIXES`, a folder (all such files below it, hidden ones left
            out), a glob (`**` too; hidden ones left out), `hf:NAME[:CONFIG][@SPLIT]`, or `embedded:english`.

    Returns:
        The sources in the order of the sources, sorted within each, without duplicates.

    Raises:
        PicoLMError: nothing is there, or nothing that can be read.
    """
    found: dict[object, Source] = {}
    for source in sources:
        for one in _expand_one(source):
            found.setdefault(place_of(one), one)
    return list(found.values())


def place_of(source: Source) -> Path | Source:
    """What two names of the same source have in common."""
    return source.path.resolve() if isinstance(source, SourceFile) and source.path else source


def _expand_one(source: str) -> Sequence[Source]:
    if source.startswith(PREFIX):
        return [HubDataset.parse(source)]
    if source.startswith(_EMBEDDED):
        name = source.removeprefix(_EMBEDDED)
        if name not in _EMBEDDED_NAMES:
            raise PicoLMError(f"there is no embedded corpus '{name}'{nearest(name, _EMBEDDED_NAMES)}")
        return [SourceFile(None)]
    path = Path(source).expanduser()
    if path.is_dir():
        return _files_below(path, what=f"the folder {source}")
    if path.exists():
        if not _suffix(path):
            raise PicoLMError(f"cannot read {source}: its suffix is unknown; {_READ}")
        return [SourceFile(path)]
    if _MAGIC & set(source):
        return _glob(source, path)
    raise PicoLMError(f"there is no {source}{_neighbour(path)}")


def _files_below(folder: Path, what: str) -> list[SourceFile]:
    files = [
        SourceFile(path)
        for path in sorted(folder.rglob("*"))
        if _suffix(path) and path.is_file() and not _is_hidden(path.relative_to(folder))
    ]
    if not files:
        raise PicoLMError(f"{what} holds no text files; {_READ}")
    return files


def _glob(source: str, pattern: Path) -> list[SourceFile]:
    magic = next(index for index, part in enumerate(pattern.parts) if _MAGIC & set(part))
    root, rest = Path(*pattern.parts[:magic]), str(Path(*pattern.parts[magic:]))
    try:
        # As in a shell, `*` does not mean hidden files.
        matches = sorted(path for path in root.glob(rest) if not _is_hidden(path.relative_to(root)))
    except ValueError as error:
        raise PicoLMError(f"the pattern {source} is not a valid glob: {error}") from error
    if not matches:
        raise PicoLMError(f"the pattern {source} matches no file")
    files = [SourceFile(path) for path in matches if _suffix(path) and path.is_file()]
    if not files:
        raise PicoLMError(f"the pattern {source} matches {matches[0]}, but no text file; {_READ}")
    return files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _suffix(path: Path) -> str:
    return next((suffix for suffix in SUFFIXES if path.name.endswith(suffix) and path.name != suffix), "")


def _neighbour(path: Path) -> str:
    parent = path.parent
    while not parent.is_dir():
        path, parent = parent, parent.parent
    close = difflib.get_close_matches(path.name, sorted(entry.name for entry in parent.iterdir()), n=1, cutoff=0.6)
    return f"; did you mean '{parent / close[0]}'?" if close else f" (the folder {parent.resolve()} has no such entry)"
