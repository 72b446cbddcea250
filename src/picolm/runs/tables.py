"""Tidy tables of a run: Parquet files, one row per measurement, each there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from picolm.errors import PicoLMError
from picolm.runs.durable import make_parents, write_bytes


class Measured(NamedTuple):
    """One value of one metric."""

    step: int
    metric: str
    site: str | None
    """What was measured: a site, a matrix, a term."""
    layer: int | None
    head: int | None
    probe: str | None
    """On which batch; None where the metric needs none."""
    value: float
    against: str | None = None
    """What it was compared with: `step 1000`, or `OTHER step 1000` of another suite; None: with nothing."""


METRICS = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("site", pa.string()),
        pa.field("layer", pa.int64()),
        pa.field("head", pa.int64()),
        pa.field("probe", pa.string()),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("against", pa.string()),
    ]
)
"""The columns of `metrics/*.parquet`, those of `Measured`."""
_WITHOUT_AGAINST = pa.schema([field for field in METRICS if field.name != "against"])
"""What runs wrote before comparisons had a column: every row of theirs is one of nothing compared."""


def write_metrics(path: Path, rows: Iterable[Measured]) -> None:
    """Write one part of the metrics, replacing what was there.

    Raises:
        PicoLMError: the disk is full, or the place cannot be written to.
    """
    make_parents(path)
    write_bytes(path, part_bytes(rows))


def part_bytes(rows: Iterable[Measured], metadata: Mapping[str, str] | None = None) -> bytes:
    """One part of the metrics as the bytes of a Parquet file.

    Args:
        rows: the values.
        metadata: texts that the file carries besides.
    """
    table = pa.Table.from_pylist([row._asdict() for row in rows], schema=METRICS)
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_metrics(directory: Path) -> pa.Table:
    """Read all parts of the metrics of a run, each figure once.

    Where several parts have the same figure, as when it was measured while the run went on and again afterwards, that
    of the newest part counts.

    Args:
        directory: `metrics/`; one that is not there has no rows.

    Raises:
        PicoLMError: a part is damaged or is no table of metrics.
    """
    files = sorted(directory.glob("*.parquet"), key=lambda file: (file.stat().st_mtime_ns, file.name))
    parts = (read_part(file).replace_schema_metadata(None) for file in files)
    return _newest(pa.concat_tables([METRICS.empty_table(), *parts]))


def read_part(path: Path) -> pa.Table:
    """Read one part, also one from before comparisons had a column; what it carries besides is its schema's metadata.

    Raises:
        PicoLMError: it is damaged or no table of metrics.
    """
    try:
        data = path.read_bytes()
        # On this thread alone, as parts of evaluations are read.
        table = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise PicoLMError(f"{path} is damaged: {error}") from error
    if table.schema.equals(_WITHOUT_AGAINST):
        table = table.append_column(METRICS.field("against"), pa.nulls(table.num_rows, pa.string()))
    if not table.schema.equals(METRICS):
        raise PicoLMError(f"{path} is no table of metrics: its columns must be {', '.join(METRICS.names)}")
    return table


def _newest(table: pa.Table) -> pa.Table:
    """Of rows that are of the same figure the last one, in the order of the steps, and of the parts within each."""
    key, place = [name for name in METRICS.names if name != "value"], "place"
    numbered = table.append_column(place, pa.array(range(table.num_rows), pa.int64()))
    # On this thread alone, as parts are read.
    last = numbered.group_by(key, use_threads=False).aggregate([(place, "max")])
    kept = last.sort_by([("step", "ascending"), (f"{place}_max", "ascending")])
    return table.take(kept[f"{place}_max"])
