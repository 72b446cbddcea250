"""Where captures, their probes and the metrics of a run stand.

===================================  ==================================================================
`captures/probes/NAME.safetensors`   the rows that a probe looks at, once
`captures/step-00001000/`            what they showed after 1000 steps; `manifest.json` says what is in it
`metrics/step-00001000.parquet`      what was measured then
===================================  ==================================================================
"""

from __future__ import annotations

from pathlib import Path

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
