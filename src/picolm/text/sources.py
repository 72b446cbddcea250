"""What a source string means: a file, a folder, a glob, a Hugging Face dataset, or `embedded:<name>?<parameters>`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_file
from picolm.text.hub import PREFIX, HubDataset

if TYPE_CHECKING:
    from picolm.text.world.corpus import Corpus

SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".parquet", ".cha", ".conllu", ".conllu.gz")
_READ = f"PicoLM reads {', '.join(SUFFIXES[:-1])} and {SUFFIXES[-1]}"
_EMBEDDED = "embedded:"
_MAGIC = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of documents, or one embedded corpus; exactly one of the two is given.

    Attributes:
        path: where the file lies; None for an embedded corpus.
        corpus: the embedded corpus; None for a file.
    """

    path: Path | None
    corpus: Corpus | None = None

    @property
    def name(self) -> str:
        """The file's name without its folder, or the corpus' own: what document ids, tables and manifests say."""
        return self.path.name if self.path else self._corpus.source

    @property
    def suffix(self) -> str:
        """One of `SUFFIXES`; empty for an embedded corpus."""
        return _suffix(self.path) if self.path else ""

    @property
    def stem(self) -> str:
        """The name without suffix: the domain of documents that do not name their own."""
        return self.name.removesuffix(self.suffix) if self.path else self._corpus.name

    @property
    def size(self) -> int:
        """Bytes of the file, as stored; bytes of text for an embedded corpus (an estimate unless it is the default)."""
        return self.path.stat().st_size if self.path else self._corpus.size

    @property
    def origin(self) -> Path | str:
        """Where its documents come from: two sources of one origin have documents in common."""
        return self.path.resolve() if self.path else self._corpus.stream

    def sha256(self) -> str:
        """Return the SHA-256 of the file's bytes, or what stands for it in an embedded corpus."""
        if self.path is None:
            return self._corpus.sha256()
        try:
            return sha256_of_file(self.path)
        except OSError as error:
            raise PicoLMError(f"cannot read {self.path}: {error.strerror}") from error

    @property
    def _corpus(self) -> Corpus:
        assert self.corpus is not None
        return self.corpus

    def __str__(self) -> str:
        return str(self.path) if self.path else self.name


Source = SourceFile | HubDataset


def expand(sources: Sequence[str]) -> list[Source]:
    """Find what source strings mean.

    Args:
        sources: each a path to a file with one of `SUFFIXES`, a folder (all such files below it, hidden ones left
            out), a glob (`**` too; hidden ones left out), `hf:NAME[:CONFIG][@SPLIT]`, or an embedded corpus such as
            `embedded:english?seed=3`.

    Returns:
        The sources in the order of the sources, sorted within each, without duplicates.

    Raises:
        PicoLMError: nothing is there, or nothing that can be read.
    """
    found: dict[object, Source] = {}
    for source in sources:
        for one in _expand_one(source):
            first = found.setdefault(place_of(one), one)
            if isinstance(first, SourceFile) and first.path is None and first.name != one.name:
                raise PicoLMError(f"{first} and {one} have documents in common: name one of them, or other seeds")
    return list(found.values())


def place_of(source: Source) -> object:
    """Where a source's documents come from: two sources of one place have documents in common."""
    return source.origin if isinstance(source, SourceFile) else source


def _expand_one(source: str) -> Sequence[Source]:
    if source.startswith(PREFIX):
        return [HubDataset.parse(source)]
    if source.startswith(_EMBEDDED):
        from picolm.text.world.corpus import open_corpus

        return [SourceFile(None, open_corpus(source))]
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
