"""Counts of each sentence as a table that is kept, and two models compared by theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from picolm.errors import PicoLMError, nearest
from picolm.evaluation.batching import IntArray
from picolm.evaluation.entities.iob2 import TYPES
from picolm.evaluation.entities.resampling import DRAWS, Difference, compared

_COUNTED = ("tp", "fp", "fn")
_SCHEMA = pa.schema(
    [
        pa.field("subset", pa.string()),
        pa.field("sentence", pa.int32()),
        pa.field("seed", pa.int64()),
        pa.field("type", pa.string()),
        *(pa.field(name, pa.int32()) for name in _COUNTED),
    ]
)
"""A row for each sentence (its place in the file, from 0), seed and type, in this order."""


def table_of_counts(counts: Mapping[str, IntArray], seeds: Sequence[int]) -> bytes:
    """Write counts.

    Args:
        counts: of each test set, [N, S, K, 3].
        seeds: S of them.

    Returns:
        A Parquet file.
    """
    tables = []
    for subset, found in counts.items():
        sentences, places, kinds = (index.ravel() for index in np.indices(found.shape[:3]))
        columns = {
            "subset": [subset] * len(sentences),
            "sentence": sentences,
            "seed": np.array(seeds, dtype=np.int64)[places],
            "type": np.array(TYPES)[kinds],
            **{name: found[..., number].ravel() for number, name in enumerate(_COUNTED)},
        }
        tables.append(pa.table(columns).cast(_SCHEMA))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(tables), sink)
    return bytes(sink.getvalue().to_pybytes())


def counts_of_table(content: bytes, name: str) -> dict[str, IntArray]:
    """Read what `table_of_counts` wrote.

    Args:
        content: of the file.
        name: what errors call it.

    Returns:
        Counts of each test set, [N, S, K, 3].

    Raises:
        PicoLMError: it is no such table.
    """
    try:
        # On this thread alone, as in `picolm.runs.evaluations`.
        table = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False).read(use_threads=False)
    except pa.ArrowException as error:
        raise PicoLMError(f"{name} is no table of counts: {error}") from None
    if not table.schema.equals(_SCHEMA) or not table.num_rows:
        raise PicoLMError(f"{name} is no table of counts: its columns must be {', '.join(_SCHEMA.names)}")
    subsets = np.array(table["subset"].to_pylist())
    values = np.stack([table[column].to_numpy() for column in _COUNTED], axis=1).astype(np.int64)
    sentences = table["sentence"].to_numpy()
    found = {}
    for subset in dict.fromkeys(subsets.tolist()):
        own, n_sentences = values[subsets == subset], int(sentences[subsets == subset].max()) + 1
        if len(own) % (n_sentences * len(TYPES)):
            raise PicoLMError(f"{name} lacks rows of '{subset}': it must have one for each sentence, seed and type")
        found[subset] = own.reshape(n_sentences, -1, len(TYPES), len(_COUNTED))
    return found


def compare_entities(
    one: Path | str, other: Path | str, *, pooled: Sequence[str] = (), draws: int = DRAWS, seed: int = 0
) -> dict[str, Difference]:
    """Compare two models that were asked the same test sets, by what the task `ner` left of either.

    Args:
        one: `eval/files/....sentences.parquet` of a checkpoint.
        other: that of another checkpoint, run or setting.
        pooled: test sets to take together too.
        draws: of the paired bootstrap over sentences.
        seed: of the draws.

    Returns:
        For each test set that both have, and `pooled`, the difference in micro-F1 (see `Difference`).

    Raises:
        PicoLMError: a file is no such table, they are of other sentences, or have no test set in common.
    """
    mine, theirs = _read(Path(one)), _read(Path(other))
    names = [name for name in mine if name in theirs]
    if not names:
        raise PicoLMError(f"{one} and {other} have no test set in common")
    for name in names:
        # All entities that are there, found or missed.
        gold, others = (table[name][:, 0, :, 0] + table[name][:, 0, :, 2] for table in (mine, theirs))
        if not np.array_equal(gold, others):
            raise PicoLMError(f"{one} and {other} have other sentences or entities in '{name}': they cannot be paired")
    for name in pooled:
        if name not in names:
            raise PicoLMError(f"there is no test set '{name}' to be pooled{nearest(name, names)}")
    micro, others_micro = ({name: table[name].sum(axis=2) for name in names} for table in (mine, theirs))
    groups = {name: [name] for name in names} | ({"pooled": list(pooled)} if pooled else {})
    return {name: compared(micro, others_micro, members, draws=draws, seed=seed) for name, members in groups.items()}


def _read(path: Path) -> dict[str, IntArray]:
    try:
        return counts_of_table(path.read_bytes(), str(path))
    except OSError as error:
        raise PicoLMError(f"cannot read the counts in {path}: {error.strerror or error}") from None
