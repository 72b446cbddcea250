"""Going through all training rows once, with a word now and then about how far it is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from picolm.errors import to_standard_error
from picolm.seams import IntArray, Run, Sequences

ROWS_AT_ONCE = 256
QUIET_SECONDS = 5.0


def numbered(run: Run, what: str) -> Iterator[IntArray]:
    """The numbers of all training rows, some at a time; says on standard error how far it is where that takes long."""
    last = time.monotonic()
    for start in range(0, run.n_rows, ROWS_AT_ONCE):
        if time.monotonic() - last > QUIET_SECONDS:
            last = time.monotonic()
            to_standard_error(f"{what}: {100 * start // run.n_rows}% of {run.n_rows:,} rows")
        yield np.arange(start, min(start + ROWS_AT_ONCE, run.n_rows), dtype=np.int64)


def scanned(run: Run, what: str) -> Iterator[Sequences]:
    """All training rows as they lie in the data, in order, some at a time."""
    for rows in numbered(run, what):
        yield run.sequences(rows)
