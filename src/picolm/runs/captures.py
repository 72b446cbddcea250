"""Where captures, their probes and the metrics of a run stand.

===================================  ==================================================================
`captures/probes/NAME.safetensors`   the rows that a probe looks at, once
`captures/step-00001000/`            what they showed after 1000 steps; `manifest.json` says what is in it
`metrics/step-00001000.parquet`      what was measured then
===================================  ==================================================================
"""

from __future__ import annotations

from pathlib import Path

from picolm.runs.directory import free_name
from picolm.runs.manifest import verify

KIND = "picolm-capture"


def probe_path(run: Path, name: str) -> Path:
    """Return where a probe's rows stand, whether they are there or not."""
    return run / "captures" / "probes" / f"{name}.safetensors"


def capture_path(run: Path, step: int) -> Path:
    """Return where the capture after `step` steps stands, whether it is there or not."""
    return run / "captures" / f"step-{step:08d}"


def metrics_path(run: Path, step: int) -> Path:
    """Return where the metrics after `step` steps stand, whether they are there or not."""
    return run / "metrics" / f"step-{step:08d}.parquet"


def is_captured(run: Path, step: int) -> bool:
    """Whether the capture after `step` steps is there and whole (reads all its bytes); a damaged one is renamed."""
    path = capture_path(run, step)
    if not path.exists():
        return False
    if not verify(path):
        return True
    # Nothing is lost, and the step can be written again.
    path.rename(path.with_name(free_name(path.parent, f"{path.name}.damaged")))
    return False
