"""Memory and time of one step with the chunked loss, and of the same step with plain logits and `F.cross_entropy`.

Each runs in a process of its own. Memory is the peak above the level just before the first step, so the interpreter,
the libraries and the model itself are not counted; gradients, moments, activations and logits are.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STEPS = 4
ROUNDS = 3


def run() -> list[dict[str, Any]]:
    """Measure the tiny preset at vocabulary 50,304 in both precisions; print and return a row for each."""
    print(f"\n{'tiny, V 50,304, 4 x 512':<34} {'chunked':>18} {'plain':>18} {'memory':>7} {'speed':>7}")
    return [_row(precision) for precision in ("fp32", "bf16")]


def _row(precision: str) -> dict[str, Any]:
    # In turn, so that a machine whose speed drifts slows both.
    results: dict[str, list[dict[str, float]]] = {"chunked": [], "plain": []}
    for _ in range(ROUNDS):
        for loss in results:
            command = [sys.executable, "-m", "benchmarks.step_memory", loss, precision]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            results[loss].append(json.loads(printed.splitlines()[-1]))
    memory = {loss: min(r["peak_bytes"] for r in rows) for loss, rows in results.items()}
    seconds = {loss: min(r["seconds"] for r in rows) for loss, rows in results.items()}
    share, speed = memory["chunked"] / memory["plain"], seconds["plain"] / seconds["chunked"]
    shown = [f"{memory[k] / 1e6:.0f} MB {seconds[k]:.2f} s" for k in ("chunked", "plain")]
    print(f"{precision:<34} {shown[0]:>18} {shown[1]:>18} {share:>6.0%} {speed:>6.2f}x", flush=True)
    return {
        "shape": f"tiny, V 50,304, 4 x 512, {precision}",
        "memory_share": round(share, 3),
        "ratio": round(speed, 3),
        "chunked_bytes": memory["chunked"],
        "plain_bytes": memory["plain"],
    }


def _measure(loss: str, precision: str) -> dict[str, float]:
    import numpy as np

    from benchmarks.training_step import trainer_step
    from picolm.config.loading import load_config
    from picolm.objective.cross_entropy import plain_losses
    from picolm.training.numerics import numerics

    plain_losses.set(loss == "plain")
    changes = {"data.sequence_length": 512, "training.batch_size": 4, "training.precision": precision}
    config = load_config("tiny", {**changes, "training.device": "cpu"})
    tokens = np.random.default_rng(0).integers(0, 50304, (4, 513))
    with tempfile.TemporaryDirectory() as folder, numerics(config.training):
        step = trainer_step(config, tokens, Path(folder))
        before = _reset_peak()
        times = []
        for _ in range(STEPS):
            started = time.perf_counter()
            step()
            times.append(time.perf_counter() - started)
        return {"peak_bytes": _status("VmHWM") - before, "seconds": min(times[1:])}


def _reset_peak() -> int:
    # Linux forgets the highest level so far when 5 is written here.
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(field: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(_measure(*sys.argv[1:])))
