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
STUBS = Path(__file__).parents[1] / "interventions" / "stubs"

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
    "capture.activations": [
        "residual.*",
        "layers.*.attention.v_proj",
        "layers.*.attention.pattern",
        "layers.*.mlp.up_proj",
    ],
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


@pytest.mark.parametrize("changes", [BORDERS, {**MASKED, "model.tied": False}])
def test_what_is_measured_online_is_what_analyze_gives_afterwards(
    small_run: Overrides, tmp_path: Path, changes: Overrides
) -> None:
    result = run({**small_run, **STEPS, **PROBES, **STORED, **ASKED, **changes}, tmp_path)
    probe = load_file(result.path / "captures" / "probes" / "short.safetensors")
    assert int(probe["valid"].min()) < 33, "the probe has padding"
    online = by_key(read_metrics(result.path / "metrics").to_pylist())
    offline = by_key(measure(result.path, metrics=METRICS, sites=SITES).to_dicts())
    assert online.keys() == offline.keys()
    values = [torch.tensor([of[key] for key in online], dtype=torch.float64) for of in (online, offline)]
    assert torch.equal(*values), "to the last bit"
    assert {key[0] for key in online} == {0, 3, 6}
    found = {(key[1], key[2], key[5]) for key in online}
    assert found >= {
        ("per", "layers.1.attention.ov.3", None),
        ("frobenius_norm", "unembedding", None),
        ("per", "gradient(layers.0.attention.ov.2)", "short"),
        ("rank_me", "residual.2", "train"),
        ("rank_me", "layers.1.attention.ov.3", "held_out"),
        ("attention_entropy.normalised", "layers.0.attention.pattern", "short"),
    }
    # Both stand in `metrics/` now, and no figure is there twice.
    assert len(list((result.path / "metrics").glob("*.parquet"))) == 6
    assert by_key(read_metrics(result.path / "metrics").to_pylist()) == online
    assert by_key(read_table(result.path).to_dicts()) == online
    assert by_key(Record.read(result).metrics) == online


def test_nothing_that_only_metrics_need_is_stored_and_the_run_is_as_without(
    small_run: Overrides, tmp_path: Path
) -> None:
    changes: Overrides = {**small_run, **STEPS, **PROBES, "model.dropout": 0.2}
    told: list[tuple[str, int, int]] = []

    class Watching(Observer):
        def evaluating(self, what: str, done: int, total: int) -> None:
            told.append((what, done, total))

    stored = run({**changes, **STORED, **ASKED}, tmp_path, "stored")
    lean = run({**changes, **NOTHING, **ASKED}, tmp_path, "lean", observers=[Watching()])
    without = run({**changes, "capture.at": []}, tmp_path, "without")
    assert lean.log_path.read_bytes() == without.log_path.read_bytes() == stored.log_path.read_bytes()
    weights = [(one.checkpoints[-1].path / "model.safetensors").read_bytes() for one in (lean, without, stored)]
    assert weights[0] == weights[1] == weights[2]
    state = [(one.checkpoints[-1].path / "state" / "optimizer.safetensors").read_bytes() for one in (lean, without)]
    assert state[0] == state[1]
    for step in (0, 3, 6):
        tables = [metrics_path(one.path, step).read_bytes() for one in (stored, lean)]
        assert tables[0] == tables[1], "what is stored makes no difference"
        files = read_manifest(capture_path(lean.path, step))["files"]
        assert set(files) == ({"train.safetensors"} if step else set())
    assert set(load_file(capture_path(lean.path, 3) / "train.safetensors")) == {"batch/input_ids", "batch/targets"}
    sizes = [capture_size(picolm.load_config(None, {**changes, "model.vocab_size": 300, **NOTHING, **more}))
             for more in ({}, ASKED)]  # fmt: skip
    assert sizes[0] == sizes[1], "metrics take no room among the captures"
    assert verify_run(lean).damage == []
    ends = {what: (done, total) for what, done, total in told}
    assert ends.keys() == {"step 0, metrics", "step 3, metrics", "step 6, metrics"}
    assert all(done == total > 0 for done, total in ends.values())


def test_a_resumed_run_measures_the_same(small_run: Overrides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: Overrides = {**small_run, **STEPS, **NOTHING, **ASKED, "checkpoints.state.every": 2}
    whole = run(changes, tmp_path, "whole")
    original = Trainer.update

    def mortal(trainer: Trainer, number: int, views: tuple[View, ...]) -> None:
        if number == 3:
            raise RuntimeError("killed")
        original(trainer, number, views)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "update", mortal)
        with pytest.raises(RuntimeError):
            run(changes, tmp_path, "killed")
    # Step 3 was measured and is made again, as the run goes on from step 2; step 6 is new.
    assert metrics_path(tmp_path / "killed", 3).is_file() and not metrics_path(tmp_path / "killed", 6).exists()
    metrics_path(tmp_path / "killed", 3).write_bytes(b"torn")
    resumed = picolm.resume(tmp_path / "killed")
    for step in (0, 3, 6):
        assert metrics_path(resumed.path, step).read_bytes() == metrics_path(whole.path, step).read_bytes(), step
    assert verify_run(resumed).damage == []


def test_what_is_built_in_another_way_is_measured_as_it_is_saved(small_run: Overrides, tmp_path: Path) -> None:
    """Readers of checkpoints see adapters merged; a model's structure changes at step 2, and its views are two."""
    uses = [f"{STUBS / file}.py:{name}" for file, name in (("adapters", "Adapters"), ("two_views", "TwoViews"))]
    metrics, sites = ["per", "rank_me"], [
        "layers.*.attention.qk.*", "layers.*.mlp.down_proj", "residual.2", "gradient(layers.*.attention.*)",
    ]  # fmt: skip
    stored = {"capture.activations": ["residual.2", "layers.*.mlp.down_proj"],
              "capture.gradients": ["layers.*.attention.*"]}  # fmt: skip
    result = run(
        {**small_run, **STEPS, **MASKED, **stored, "interventions": [{"use": use} for use in uses],
         "capture.metrics": metrics, "capture.metric_sites": sites},
        tmp_path, trusted=uses,
    )  # fmt: skip
    online = by_key(read_metrics(result.path / "metrics").to_pylist())
    offline = by_key(measure(result.path, metrics=metrics, sites=sites, keep=False).to_dicts())
    assert {key: online[key] for key in offline} == offline
    # Offline the last capture says which gradients there are; online each says so itself.
    at_rest = {f"gradient(layers.{layer}.attention.q_proj)" for layer in (0, 1)}
    assert {(key[0], key[2]) for key in online.keys() - offline.keys()} == {(0, name) for name in at_rest}
    assert {key[5] for key in online} == {None, "held_out.masked", "held_out.classes", "train.masked", "train.classes"}


@pytest.mark.parametrize(
    ("metrics", "sites", "message"),
    [
        (["perr"], ["embedding"], r"capture.metrics: there is no metric 'perr'; did you mean 'per'"),
        (["per"], ["layers.*.attention.oproj"], r"capture.metrics: there is no site 'layers.*o_proj"),
        (["per"], ["gradient(layers.*.mlp.down)"], r"capture.metrics: sites: the model has no matrix 'layers.*.mlp.do"),
        (["cka"], ["residual.*"], r"'cka' compares two steps.*`picolm analyze RUN --metrics cka` measures it after"),
        (["per"], ["delta(embedding)"], r"'delta\(embedding\)' compares two steps.*after the run"),
        (["noise_scale"], ["gradient(embedding)"], r"'noise_scale' takes the gradients of single rows.*--probe NAME"),
        (["rank_me"], ["embedding_"], r"no site 'embedding_'"),
        (["per", "sink_mass"], ["embedding"], r"'sink_mass' takes probabilities of attention, and no site"),
        (["per"], [], "there are `metrics` but no `metric_sites`"),
        ([], ["embedding"], "there are `metric_sites` but no `metrics`"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_run_begins(
    small_run: Overrides, tmp_path: Path, metrics: list[str], sites: list[str], message: str
) -> None:
    asked = {"capture.metrics": metrics, "capture.metric_sites": sites, "capture.every": 2}
    with pytest.raises(PicoLMError, match=message):
        run({**small_run, **asked}, tmp_path)
    assert not (tmp_path / "run").exists()


def test_patterns_of_chosen_positions_and_metrics_without_steps_are_refused(
    small_run: Overrides, tmp_path: Path
) -> None:
    asked = {"capture.metrics": ["sink_mass"], "capture.metric_sites": ["layers.*.attention.pattern"]}
    with pytest.raises(PicoLMError, match=r"needs all queries of a pattern: set capture.positions=all"):
        run({**small_run, **asked, "capture.every": 2, "capture.positions": [-1]}, tmp_path)
    with pytest.raises(PicoLMError, match=r"no steps to measure at: for example per_doubling=1"):
        run({**small_run, **asked}, tmp_path)
