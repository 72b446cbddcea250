"""Analysing a suite of checkpoints: PicoLM against a plain loop that loads whole files for each metric and step.

Twenty checkpoints of the small preset, each with activations of 1,024 tokens; eight metrics on the weights of three
sites in twelve layers, and CKA with the last checkpoint on their activations. The peer works as pico-analyze does: for
each metric and step it loads one file of `torch.save` that holds the weights and the activations of that step, and
computes in float32, one matrix after another, singular values anew for each metric that needs them. Its file is read
with `weights_only`; PicoLM reads the run itself, safetensors. Singular values and sorting are the floor of both: they
are timed alone, once for each matrix, in float64 as PicoLM computes them.

Each side runs in a process of its own, by turns; seconds count from after the imports, and both must find the same.
Peak memory is that of the whole process, pages of mapped files included.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STEPS = 20
LAYERS = 12
SITES = ("attention.v_proj", "attention.o_proj", "mlp.down_proj")
WEIGHT_METRICS = (
    "per",
    "full_condition_number",
    "frobenius_norm",
    "nuclear_norm",
    "max_abs",
    "gini",
    "hoyer",
)
ROUNDS = 2
_SINGULAR = ("per", "full_condition_number", "nuclear_norm")
_Rows = dict[str, float]


def run() -> list[dict[str, Any]]:
    """Make the suite, analyse it by turns; print and return one row."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # In a process of its own too: a child inherits the peak of the process that started it.
        subprocess.run([sys.executable, "-m", "benchmarks.analysis", "suite", folder], check=True)
        rounds = [{side: _measured(side, root) for side in ("picolm", "plain", "floor")} for _ in range(ROUNDS)]
        _compare(*(json.loads((root / f"{side}.json").read_text()) for side in ("picolm", "plain")))
    seconds = {side: statistics.median(one[side]["seconds"] for one in rounds) for side in rounds[0]}
    peaks = {side: max(one[side]["peak_mb"] for one in rounds) for side in ("picolm", "plain")}
    ratio = statistics.median(one["plain"]["seconds"] / one["picolm"]["seconds"] for one in rounds)
    shape = f"small, {len(SITES)} sites x {LAYERS} layers x {STEPS} checkpoints"
    print("\n" + f"{'analysis':<44}{'PicoLM':>10}{'plain loop':>12}{'floor':>8}{'ratio':>8}")
    print(f"{shape:<44}{seconds['picolm']:>8.1f} s{seconds['plain']:>10.1f} s{seconds['floor']:>6.1f} s{ratio:>8.2f}")
    print(f"{'  peak memory':<44}{peaks['picolm']:>7,.0f} MB{peaks['plain']:>9,.0f} MB", flush=True)
    row = {"shape": shape, **{f"{side}_seconds": round(value, 2) for side, value in seconds.items()}}
    return [
        {**row, **{f"{side}_peak_megabytes": round(peak) for side, peak in peaks.items()}, "ratio": round(ratio, 3)}
    ]


def _train(root: Path) -> None:
    """A run whose every step is a checkpoint with a capture."""
    import picolm

    changes = {
        "data.sources": ["embedded:english?documents=400"],
        "data.cache": str(root / "cache"),
        "data.sequence_length": 128,
        "training.steps": STEPS - 1,
        "training.batch_size": 1,
        "training.micro_batch_size": None,
        "training.precision": "fp32",
        "training.device": "cpu",
        "schedule.warmup_steps": 0,
        "optimizer.learning_rate": 1e-3,
        "validation.every": 0,
        "validation.tokens_per_domain": 1024,
        "checkpoints.model.per_doubling": 0,
        "checkpoints.model.at": list(range(STEPS)),
        "capture.at": list(range(STEPS)),
        "capture.activations": [f"layers.*.{site}" for site in SITES],
        "capture.probes": {"held_out": {"sequences": 8}},
        "samples.prompts": [],
    }
    picolm.train(picolm.load_config("small", changes), name="run", runs_dir=root)


def _write_for_peer(root: Path) -> None:
    import torch

    from picolm.analysis.opening import open_source

    source = open_source(root / "run")
    for step in source.steps:
        weights = source.snapshot(step).read(source.snapshot(step).shapes)
        capture = source.capture(step)
        (probe,) = capture.probes
        names = capture.names("activation", probe)
        real = capture.real(probe)
        seen = {name: tensor[real] for name, tensor in capture.read("activation", names, probe).items()}
        torch.save({"weights": weights, "activations": seen}, root / f"step_{step}.pt")


def _measured(side: str, root: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.analysis", side, str(root)]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return found


def _compare(ours: _Rows, theirs: _Rows) -> None:
    """Both found the same, but for float32 on the peer's side."""
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())[:4]
    for key, value in theirs.items():
        if not key.startswith("full_condition_number"):
            assert abs(ours[key] - value) <= 1e-3 * max(abs(value), 1e-2), (key, ours[key], value)


def _key(metric: str, step: int, site: str) -> str:
    return f"{metric} {step} {site}"


def _picolm(root: Path) -> _Rows:
    from picolm.analysis.table import measure

    sites = [f"layers.*.{site}" for site in SITES]
    found = measure(root / "run", metrics=[*WEIGHT_METRICS, "biased_cka"], sites=sites, output=root / "out", again=True)
    return {_key(row["metric"], row["step"], row["site"]): row["value"] for row in found.iter_rows(named=True)}


def _plain(root: Path) -> _Rows:
    import torch

    found: _Rows = {}
    target = torch.load(root / f"step_{STEPS - 1}.pt", weights_only=True)["activations"]
    for metric in (*WEIGHT_METRICS, "biased_cka"):
        for step in range(STEPS):
            state = torch.load(root / f"step_{step}.pt", weights_only=True)
            for site in _sites():
                if metric == "biased_cka":
                    found[_key(metric, step, site)] = _cka(state["activations"][site], target[site])
                else:
                    found[_key(metric, step, site)] = _of_weight(metric, state["weights"][site])
    return found


def _floor(root: Path) -> _Rows:
    import torch

    from picolm.analysis.opening import open_source

    source = open_source(root / "run")
    for step in source.steps:
        for matrix in source.snapshot(step).read(list(_sites())).values():
            torch.linalg.svdvals(matrix.double())
            matrix.abs().double().flatten().sort()
    return {}


def _sites() -> Iterator[str]:
    for site in SITES:
        for layer in range(LAYERS):
            yield f"layers.{layer}.{site}"


def _of_weight(metric: str, weight: Any) -> float:
    import torch

    if metric in _SINGULAR:
        singular = torch.linalg.svdvals(weight)
        if metric == "nuclear_norm":
            return float(singular.sum())
        if metric == "full_condition_number":
            return float(singular[0] / singular[-1])
        shares = singular / singular.sum()
        return float((-(shares * shares.log()).sum()).exp() / len(singular))
    flat = weight.abs().flatten()
    n = len(flat)
    if metric == "gini":
        ordered = flat.sort().values
        index = torch.arange(1, n + 1)
        return float(((2 * index - n - 1) * ordered).sum() / (n * ordered.sum()))
    if metric == "hoyer":
        return float((n**0.5 - flat.sum() / weight.norm()) / (n**0.5 - 1))
    return float(weight.norm() if metric == "frobenius_norm" else flat.max())


def _cka(x: Any, y: Any) -> float:
    x, y = x - x.mean(0), y - y.mean(0)
    return float((x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def _suite(root: Path) -> None:
    _train(root)
    _write_for_peer(root)


def _child(side: str, root: Path) -> None:
    import picolm.analysis.table  # noqa: F401 - imports are no part of the work

    started = time.perf_counter()
    found = {"picolm": _picolm, "plain": _plain, "floor": _floor}[side](root)
    seconds = time.perf_counter() - started
    (root / f"{side}.json").write_text(json.dumps(found))
    print(json.dumps({"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "suite":
        _suite(Path(sys.argv[2]))
    elif len(sys.argv) == 3:
        _child(sys.argv[1], Path(sys.argv[2]))
    else:
        run()
