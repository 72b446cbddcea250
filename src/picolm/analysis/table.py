"""Analyses as tables for notebooks.

    table = measure("runs/demo", metrics=["effective_rank"], sites=["layers.*.attention.ov.*"])

A table has the columns of `runs.tables.Measured`. It is a `polars.DataFrame`; `.to_pandas()` makes one of pandas, where
that is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from picolm.analysis.counter import Progress
from picolm.analysis.opening import open_source
from picolm.analysis.pipeline import Analysis, Request, folder_of
from picolm.analysis.probe_text import LENGTH, ROWS
from picolm.errors import PicoLMError
from picolm.runs.analyses import FOLDER
from picolm.runs.tables import METRICS, Measured, read_metrics, read_part


def measure(
    target: Path | str,
    *,
    metrics: Sequence[str],
    sites: Sequence[str],
    steps: str | int | Sequence[int] = "all",
    against: str | int = "final",
    probe: Path | str | None = None,
    probe_rows: int = ROWS,
    probe_length: int = LENGTH,
    output: Path | str | None = None,
    keep: bool = True,
    again: bool = False,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Measure a suite of checkpoints; what was measured before is read instead.

    Args:
        target: as `open_source` takes it.
        metrics: names, as in `metric.REGISTRY`.
        sites: patterns: of weights, `delta(...)`, `gradient(...)`, activations.
        steps: `all`, `last`, numbers, or `log:N`.
        against: with what metrics of pairs compare: `final`, `previous`, a step or the path of another suite.
        probe: a text, or the name of a probe of the run, on which activations and gradients are computed; None: those
            that were captured are read.
        probe_rows: at most so many rows of the text.
        probe_length: positions of each row.
        output: where parts are kept; None: in the run's `metrics/`, of other suites in `analysis/NAME/metrics`.
        keep: whether they are kept at all.
        again: whether what is there already is measured again.
        progress: told how far it is.

    Returns:
        A row for each value: step, metric, site, layer, head, probe, value, against.

    Raises:
        PicoLMError: the request does not fit the suite, or a file is damaged.
    """
    source = open_source(target)
    folder = folder_of(source, None if output is None else Path(output)) if keep else None
    request = Request(metrics, sites, steps, against, probe, probe_rows, probe_length)
    return frame_of(Analysis(source, request, folder).rows(again=again, progress=progress))


def read_table(path: Path | str) -> pl.DataFrame:
    """Read all that was measured of a suite: online while it was trained, and by analyses afterwards.

    Where several parts have the same figure, that of the newest part counts.

    Args:
        path: a run, a folder of parts, or one part.

    Raises:
        PicoLMError: there is nothing of the kind, or a part is damaged.
    """
    place = Path(path)
    if not place.exists():
        raise PicoLMError(f"there is no table of metrics '{place}'")
    folder = place / FOLDER if (place / FOLDER).is_dir() else place
    return _frame(read_metrics(folder) if folder.is_dir() else read_part(folder).replace_schema_metadata(None))


def frame_of(rows: Sequence[Measured]) -> pl.DataFrame:
    """Rows as a table."""
    return _frame(pa.Table.from_pylist([row._asdict() for row in rows], schema=METRICS))


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
