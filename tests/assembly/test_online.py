"""Metrics while a run trains: the rows that `picolm analyze` gives afterwards, and a run that is the same without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import picolm
from picolm.analysis.table import measure, read_table
from picolm.errors import PicoLMError
from picolm.report.measured import blocks
from picolm.report.record import Record
from picolm.runs.captures import capture_path, metrics_path
from picolm.runs.directory import RunDirectory
from picolm.runs.manifest import read_manifest
from picolm.runs.tables import read_metrics
from picolm.runs.verification import verify_run
from picolm.seams import Observer, View
from picolm.training.capture_size import capture_size
from picolm.training.trainer import Trainer

Overrides = dict[str, Any]

METRICS = ["per", "condition_number", "frobenius_norm", "rank_me", "attention_entropy", "sink_mass"]
SITES = [
    "layers.*.attention.ov.*", "layers.*.attention.qk.1", "layers.*.attention.ov_concatenated", "layers.*.mlp.up_proj",
    "unembedding", "gradient(layers.*.attention.o_proj)", "gradient(layers.0.attention.ov.2)", "residual.*",
    "layers.*.attention.pattern",
]  # fmt: skip
STEPS: Overrides = {"training.steps": 6, "capture.at": [0, 3, 6], "capture.train_batch": True}
# Six rows are more than the domain `up` has held-out text for, so the last ones are short.
PROBES: Overrides = {"capture.probes": {"held_out": {"sequences": 5}, "short": {"domain": "up", "sequences": 60}}}
STORED: Overrides = {
    "capture.activations": ["residual.*", "layers.*.attention.v_proj", "layers.*.attention.pattern"],
    "capture.gradients": ["layers.*.attention.o_proj", "layers.*.attention.v_proj"],
}
NOTHING: Overrides = {"capture.activations": [], "capture.gradients": [], "capture.token_losses": False}
ASKED: Overrides = {"capture.metrics": METRICS, "capture.metric_sites": SITES}
BORDERS: Overrides = {"data.document_borders": True}
MASKED: Overrides = {"objective": {"kind": "masked", "rate": 0.3}, "model.attention": "bidirectional"}


def run(overrides: Overrides, directory: Path, name: str = "run", **more: Any) -> RunDirectory:
    return picolm.train(picolm.load_config(None, overrides), name=name, runs_dir=directory, **more)


def by_key(rows: list[dict[str, Any]]) -> dict[tuple[object, ...], float]:
    found = {tuple(value for name, value in row.items() if name != "value"): row["value"] for row in rows}
    assert len(found) == len(rows)
    return found


def test_what_is_measured_online_is_what_analyze_gives_afterwards(small_run: Overrides, tmp_path: Path) -> None:
    for name, changes in {"whole": {}, "borders": BORDERS, "masked": {**MASKED, "model.tied": False}}.items():
        result = run({**small_run, **STEPS, **PROBES, **STORED, **ASKED, **changes}, tmp_path, name)
        probe = load_file(result.path / "captures" / "probes" / "short.safetensors")
        assert int(probe["valid"].min()) < 33, "the probe has padding"
        online = by_key(read_metrics(result.path / "metrics").to_pylist())
        offline = by_key(measure(result.path, metrics=METRICS, sites=SITES, keep=False).to_dicts())
        assert online.keys() == offline.keys()
        assert torch.equal(
            torch.tensor(list(online.values()), dtype=torch.float64),
            torch.tensor([offline[key] for key in online], dtype=torch.float64),
        )
        kinds = {(key[1], key[2], key[5]) for key in online}
        assert {("per", "layers.1.attention.ov.3", None), ("per", "gradient(layers.0.attention.ov.2)", "short"),
                ("rank_me", "residual.2", "train"), ("attention_entropy", "layers.0.attention.pattern", "short"),
                ("rank_me", "layers.1.attention.ov.3", "held_out"), ("frobenius_norm", "unembedding", None),
        } <= kinds  # fmt: skip
