"""A run in a few figures."""

from __future__ import annotations

from typing import Any

from picolm.runs.directory import Checkpoint, RunDirectory
from picolm.runs.lineage import past
from picolm.runs.manifest import DamagedManifestError
from picolm.runs.timings import total_seconds, typical_speed


def summarize(run: RunDirectory) -> dict[str, Any]:
    """Collect what `picolm show` prints, as plain data; figures that do not exist yet are None.

    Returns:
        Identity (`name`, `path`, `config_hash`, `parameters`, `data`, `seeds`, `parent`, `interventions`), progress
        (`step`, `steps`, `tokens`, `seconds`, `tokens_per_second`, `skipped`), results (`train_loss`; `validation` with
        the first and last record, the first of a fork being that of its oldest ancestor; `curve`, the mean validation
        loss by step, from before a fork too; `samples`) and `checkpoints` (for each `step`, `path`, `bytes`, `holds`,
        `damage`).
    """
    identity, log, timings = run.identity, run.log, run.timings
    training = [line for line in log if line["event"] == "train"]
    validations = [line for line in (*past(run), *log) if line["event"] == "validation"]
    last = training[-1] if training else {}
    return {
        "name": run.name,
        "path": str(run.path),
        "config_hash": identity["config_hash"],
        "parameters": identity["parameters"],
        "data": identity["data"],
        "seeds": identity["seeds"],
        "parent": identity["parent"],
        "interventions": identity["interventions"],
        "step": last.get("step", 0),
        "steps": identity["config"]["training"]["steps"],
        "tokens": last.get("tokens", 0),
        "skipped": last.get("skipped", 0),
        "seconds": total_seconds(timings),
        "tokens_per_second": typical_speed(timings),
        "train_loss": last.get("loss"),
        "validation": {"first": validations[0], "last": validations[-1]} if validations else None,
        "curve": [{"step": line["step"], "loss": line["loss"]} for line in validations],
        "samples": [{"prompt": line["prompt"], "text": line["text"]} for line in log if line["event"] == "sample"],
        "checkpoints": [_checkpoint(checkpoint) for checkpoint in run.candidates()],
    }


def _checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """What stands in a checkpoint; its files are compared with its manifest by name and size only."""
    damage = checkpoint.damaged(hashes=False)
    try:
        holds = ["model", "state"] if checkpoint.has_state else ["model"]
        size = checkpoint.size_bytes
    except DamagedManifestError:
        holds, size = [], sum(file.stat().st_size for file in checkpoint.path.rglob("*") if file.is_file())
    return {"step": checkpoint.step, "path": str(checkpoint.path), "bytes": size, "holds": holds, "damage": damage}
