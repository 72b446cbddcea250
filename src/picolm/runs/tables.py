"""Tidy tables of a run: Parquet files, one row per measurement, each there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
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


METRICS = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("site", pa.string()),
        pa.field("layer", pa.int64()),
        pa.field("head", pa.int64()),
        pa.field("probe", pa.string()),
        pa.field("value", pa.float64(), nullable=False),
    ]
)
"""The columns of `metrics/*.parquet`, those of `Measured`."""


def write_metrics(path: Path, rows: Iterable[Measured]) -> None:
    """Write one part of the metrics, replacing what was there.

    Raises:
        PicoLMError: the disk is full, or the place cannot be written to.
    """
    table = pa.Table.from_pylist([row._asdict() for row in rows], schema=METRICS)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    make_parents(path)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_metrics(directory: Path) -> pa.Table:
    """Read all parts of the metrics of a run, by step.

    Args:
        directory: `metrics/`; one that is not there has no rows.

    Raises:
        PicoLMError: a part is damaged or is no table of metrics.
    """
    return pa.concat_tables([METRICS.empty_table(), *map(_read, sorted(directory.glob("*.parquet")))])


def _read(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise PicoLMError(f"{path} is damaged: {error}") from error
    if not table.schema.equals(METRICS):
        raise PicoLMError(f"{path} is no table of metrics: its columns must be {', '.join(METRICS.names)}")
    return table
