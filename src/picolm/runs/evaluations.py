"""What evaluations of a run found: tidy Parquet parts, each beside a JSON file that says how it was measured.

===============================================  ========================================================
`eval/step-00001000.pairs.1f2e....parquet`       the rows of one task at one checkpoint
`eval/step-00001000.pairs.1f2e....json`          settings, the data's SHA-256, versions, the SHA-256 of part and files
`eval/files/step-00001000.words.1f2e....ENDING`  what else the task found there, such as a table of words
`eval/files/shared.words.1f2e....ENDING`         what is the same at all checkpoints
===============================================  ========================================================

The hash in the name is over everything that decides about the figures beside the model. A part counts only when the
JSON file names its bytes and those of its files, so what a kill left half done is never read, and is measured again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_bytes, sha256_of_file, sha256_of_json
from picolm.runs.durable import make_parents, write_bytes, write_json
from picolm.runs.manifest import check_format

FOLDER = "eval"
_FILES = "files"
_SHARED = "shared"
FORMAT = 1
KIND = "picolm-evaluation"


class Evaluated(NamedTuple):
    """One value of one metric of one task."""

    step: int | None
    """Updates made by the model; None where its directory does not say."""
    task: str
    """As it was asked for: `pairs:blimp`, with the settings that are not the usual ones."""
    subset: str
    """`all`, or a group: `paradigm/adjunct_island`, `domain/news`."""
    metric: str
    value: float
    se: float | None
    """Standard error; None where there is none."""
    n: int
    """How many items, or tokens, the value is a mean or a count of."""


EVALUATIONS = pa.schema(
    [
        pa.field("step", pa.int64()),
        pa.field("task", pa.string(), nullable=False),
        pa.field("subset", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("se", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
    ]
)
"""The columns of `eval/*.parquet`, those of `Evaluated`."""


@dataclass(frozen=True, slots=True)
class Part:
    """Where the rows of one task at one checkpoint stand, whether they are there or not.

    Attributes:
        folder: `eval/`.
        step: of the checkpoint; None where it is not known.
        task: the kind of the task.
        identity: JSON values: everything beside the model that decides about the figures.
    """

    folder: Path
    step: int | None
    task: str
    identity: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The Parquet file."""
        beginning = "model" if self.step is None else f"step-{self.step:08d}"
        return self.folder / f"{beginning}.{self.task}.{self.hash[:16]}.parquet"

    def file(self, ending: str) -> Path:
        """A file beside the rows that is no row."""
        return self.folder / _FILES / f"{self.path.stem}.{ending}"

    def shared_file(self, ending: str) -> Path:
        """A file that belongs to the task at all checkpoints."""
        return self.folder / _FILES / f"{_SHARED}.{self.task}.{self.hash[:16]}.{ending}"

    @property
    def hash(self) -> str:
        """SHA-256 of the identity."""
        return sha256_of_json({"format": FORMAT, "task": self.task, **self.identity})

    def rows(self, model: str) -> list[Evaluated] | None:
        """Read the part; None where it is not there, not whole, or of another model.

        Args:
            model: SHA-256 of the model's weights.
        """
        try:
            facts, table = _read(self.path)
        except _NotWholeError:
            return None
        return _rows(table) if facts.get("model") == model else None

    def write(
        self,
        rows: Iterable[Evaluated],
        facts: Mapping[str, Any],
        files: Mapping[str, bytes] | None = None,
        shared: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write the part and what is beside it, replacing what was there.

        Args:
            rows: what was measured.
            facts: JSON values that stand beside the identity; `model` is the SHA-256 of the model's weights.
            files: what is no row, by the ending of its name.
            shared: what is the same at all checkpoints, likewise.

        Raises:
            PicoLMError: the disk is full, or the place cannot be written to.
        """
        data = table_bytes(pa.Table.from_pylist([row._asdict() for row in rows], schema=EVALUATIONS))
        own = {"format": FORMAT, "kind": KIND, "step": self.step, "task": self.task, "hash": self.hash}
        make_parents(self.path)
        write_bytes(self.path, data)
        contents = {self.file(ending): content for ending, content in (files or {}).items()}
        contents |= {self.shared_file(ending): content for ending, content in (shared or {}).items()}
        for path, content in contents.items():
            make_parents(path)
            write_bytes(path, content)
        hashes = {path.name: sha256_of_bytes(content) for path, content in contents.items()}
        # Last: with it the part is there.
        beside = {**own, "identity": dict(self.identity), **facts, "sha256": sha256_of_bytes(data), "files": hashes}
        write_json(self.path.with_suffix(".json"), beside)


def shared_files(part: Part) -> dict[str, bytes]:
    """What a task wrote once for all checkpoints, by the ending of its name; empty where nothing whole is there."""
    beginning = part.shared_file("").name
    for beside in sorted(part.folder.glob(f"*.{part.task}.{part.hash[:16]}.json")):
        try:
            facts, _ = _read(beside.with_suffix(".parquet"))
        except _NotWholeError:
            continue
        names = [name for name in facts.get("files", {}) if name.startswith(beginning)]
        return {name.removeprefix(beginning): (part.folder / _FILES / name).read_bytes() for name in names}
    return {}


@dataclass(frozen=True, slots=True)
class Kept:
    """What one whole part left beside its rows.

    Attributes:
        part: where it stands, with its identity.
        names: of its files, those that all checkpoints share among them.
    """

    part: Part
    names: frozenset[str]

    @property
    def label(self) -> str:
        """How its rows name the task."""
        return str(self.part.identity.get("label", self.part.task))

    def table(self, ending: str) -> pa.Table:
        """Read a table of this checkpoint, or else one that all checkpoints share.

        Args:
            ending: of its name, such as `words.parquet`.

        Raises:
            PicoLMError: the task left no such file.
        """
        return _table(self.content(ending))

    def content(self, ending: str) -> bytes:
        """Read a file of this checkpoint, or else one that all checkpoints share.

        Raises:
            PicoLMError: the task left no such file.
        """
        for path in (self.part.file(ending), self.part.shared_file(ending)):
            if path.name in self.names:
                return path.read_bytes()
        raise PicoLMError(f"{self.part.path} has no {ending} beside it")


def kept(folder: Path, task: str) -> list[Kept]:
    """All whole parts of a kind of task with the files beside them, by step.

    Args:
        folder: `eval/`; one that is not there has none.
        task: the kind, such as `words`.

    Raises:
        PicoLMError: a newer PicoLM wrote one of them.
    """
    found = []
    for path in sorted(folder.glob(f"*.{task}.*.parquet")):
        try:
            facts, _ = _read(path)
        except _NotWholeError:
            continue
        if facts.get("task") == task:
            found.append(Kept(Part(folder, facts["step"], task, facts["identity"]), frozenset(facts.get("files", {}))))
    return sorted(found, key=lambda one: -1 if one.part.step is None else one.part.step)


def table_bytes(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_evaluations(folder: Path) -> pa.Table:
    """Read all whole parts of a run's evaluations, by file name.

    Args:
        folder: `eval/`; one that is not there has no rows.

    Raises:
        PicoLMError: a newer PicoLM wrote one of them.
    """
    tables = []
    for path in sorted(folder.glob("*.parquet")):
        try:
            tables.append(_read(path)[1])
        except _NotWholeError:
            continue
    return pa.concat_tables([EVALUATIONS.empty_table(), *tables])


def check_parts(folder: Path) -> tuple[list[str], list[str]]:
    """Look at every part of a run's evaluations.

    Args:
        folder: `eval/`; one that is not there is whole.

    Returns:
        One sentence for each damage; and one for each part of which a kill left only the rows: it is measured again.

    Raises:
        PicoLMError: a newer PicoLM wrote one of them.
    """
    damage, unfinished = [], []
    files = [path for path in folder.glob("*") if path.suffix in (".parquet", ".json")]
    for beside in sorted({path.with_suffix(".json") for path in files if not path.name.startswith(".")}):
        path = beside.with_suffix(".parquet")
        if path.is_file() and not beside.is_file():
            unfinished.append(f"{path} has no {beside.name}: its evaluation did not come to its end")
            continue
        try:
            facts, _ = _read(path)
        except (_NotWholeError, pa.ArrowException) as error:
            damage.append(str(error))
            continue
        identity = {"format": facts["format"], "task": facts.get("task"), **facts.get("identity", {})}
        if sha256_of_json(identity) != facts.get("hash") or f".{str(facts['hash'])[:16]}" not in path.name:
            damage.append(f"{beside} was changed: it describes another evaluation than its name says")
    return damage, unfinished


class _NotWholeError(PicoLMError):
    """A part is not there, or not as its JSON file says."""


def _read(path: Path) -> tuple[dict[str, Any], pa.Table]:
    beside = path.with_suffix(".json")
    try:
        data, facts = path.read_bytes(), json.loads(beside.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _NotWholeError(f"{path} is not whole: {error}") from None
    if not isinstance(facts, dict) or facts.get("kind") != KIND:
        raise _NotWholeError(f"{beside} does not describe an evaluation")
    check_format(beside, facts, FORMAT)
    if facts.get("sha256") != sha256_of_bytes(data):
        raise _NotWholeError(f"{path} is not the file that {beside.name} describes")
    for name, expected in facts.get("files", {}).items():
        file = path.parent / _FILES / Path(name).name
        if not file.is_file() or sha256_of_file(file) != expected:
            raise _NotWholeError(f"{file} is not the file that {beside.name} describes")
    table = _table(data)
    if not table.schema.equals(EVALUATIONS):
        raise _NotWholeError(f"{path} has other columns than {', '.join(EVALUATIONS.names)}")
    return facts, table


def _table(data: bytes) -> pa.Table:
    # On this thread alone: one of Arrow's own that let go of Python's bytes while the interpreter ends would abort it.
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False)


def _rows(table: pa.Table) -> list[Evaluated]:
    return [Evaluated(**row) for row in table.to_pylist()]
