"""What an analysis found at one step: a tidy Parquet part that says what it was measured on.

`metrics/analysis.step-00001000.1f2e....parquet`: the hash in the name is over what was asked for. What it was asked of
(weights, probe, the code that measures) has a hash of its own inside the part: where that is another one, the part is
of other weights, and is measured again and replaced. A part is one file that appears by rename, so a kill leaves none
that is half written; one whose rows are not those that it was written with counts as not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_bytes, sha256_of_json
from picolm.runs.durable import make_parents, write_bytes
from picolm.runs.tables import Measured, part_bytes, read_part

FOLDER = "metrics"
FORMAT = 1
_PREFIX = "analysis"
_FACTS = "picolm"


@dataclass(frozen=True, slots=True)
class AnalysisPart:
    """Where the rows of one step stand, whether they are there or not.

    Attributes:
        folder: `metrics/`.
        step: after which the weights were written.
        asked: JSON values: metrics, sites, and what they are compared with and shown.
    """

    folder: Path
    step: int
    asked: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The Parquet file."""
        name = sha256_of_json({"format": FORMAT, **self.asked})[:16]
        return self.folder / f"{_PREFIX}.step-{self.step:08d}.{name}.parquet"

    def rows(self, content: str) -> list[Measured] | None:
        """Read the part; None where it is not there, damaged, or of something else.

        Args:
            content: SHA-256 of what was measured.
        """
        if not self.path.is_file():
            return None
        try:
            facts, rows = _read(self.path)
        except PicoLMError:
            return None
        return rows if facts.get("content") == content and facts.get("rows") == _digest(rows) else None

    def write(self, rows: Iterable[Measured], content: str, target: str) -> None:
        """Write the part, replacing what was there.

        Args:
            rows: what was measured.
            content: SHA-256 of what it was measured on.
            target: whose steps these are.

        Raises:
            PicoLMError: the disk is full, or the place cannot be written to.
        """
        rows = list(rows)
        facts = {"format": FORMAT, "asked": dict(self.asked), "content": content, "target": target}
        make_parents(self.path)
        write_bytes(self.path, part_bytes(rows, {_FACTS: json.dumps({**facts, "rows": _digest(rows)})}))


def analysed_target(folder: Path) -> str | None:
    """Whose steps a folder's parts are of; None where there are none that can be read."""
    for path in sorted(folder.glob(f"{_PREFIX}.*.parquet")):
        try:
            target = _read(path)[0].get("target")
        except PicoLMError:
            continue
        if isinstance(target, str):
            return target
    return None


def _read(path: Path) -> tuple[dict[str, Any], list[Measured]]:
    table = read_part(path)
    try:
        facts = json.loads((table.schema.metadata or {})[_FACTS.encode()])
    except (KeyError, ValueError, RecursionError):
        raise PicoLMError(f"{path} does not say what it was measured on") from None
    if not isinstance(facts, dict):
        raise PicoLMError(f"{path} does not say what it was measured on")
    return facts, [Measured(**row) for row in table.to_pylist()]


def _digest(rows: list[Measured]) -> str:
    # As text, in which every NaN is alike and every other float is exact.
    return sha256_of_bytes(repr([tuple(row) for row in rows]).encode())
