"""The size of captures is known before the run, and too large a one is refused in words that help."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from safetensors import safe_open

import picolm
from picolm.errors import PicoLMError
from picolm.runs.captures import capture_path, probe_path
from picolm.training.capture_size import capture_size, check_room

Overrides = dict[str, Any]
BASE: Overrides = {
    "model": {"vocab_size": 512, "d_model": 48, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "d_ffn": 80},
    "data.sequence_length": 32,
    "training": {"steps": 100, "batch_size": 8},
    "schedule.warmup_steps": 1,
    "capture.every": 10,
}


def tensor_bytes(path: Path) -> int:
    """Bytes of the tensors in all safetensors files below a path: their size without the headers."""
    total = 0
    for file in [path] if path.is_file() else sorted(path.glob("*.safetensors")):
        header = int.from_bytes(file.read_bytes()[:8], "little")
        with safe_open(file, "pt") as opened:
            assert len(list(opened.keys())) > 0 and header < 20_000
        total += file.stat().st_size - 8 - header
    return total


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"capture.dtype": "bf16", "capture.positions": [0, -1, 5], "capture.train_batch": True},
        {"optimizer": {"kind": "muon"}, "capture.activations": ["residual.*", "layers.*.attention.*"]},
        {
            "objective": {"kind": "masked", "rate": 0.3},
            "model.attention": "bidirectional",
            "data.document_borders": True,
            "capture.activations": ["hidden", "layers.0.attention.pattern"],
        },
        {"model.tied": True, "model.qk_norm": True, "capture.activations": ["layers.*.attention.q_norm"]},
    ],
)
def test_the_size_is_what_is_written(small_run: Overrides, tmp_path: Path, changes: Overrides) -> None:
    overrides: Overrides = {
        **small_run,
        "training.steps": 4,
        "capture.at": [0, 2, 4],
        "capture.gradients": ["layers.*.attention.*_proj", "embedding"],
        "capture.moments": ["layers.*.mlp.up_proj", "output_norm", "embedding"],
        "capture.updates": ["layers.1.mlp.*"],
        "capture.probes": {"a": {"sequences": 3}, "b": {"sequences": 2, "domain": "down"}},
        **changes,
    }
    run = picolm.train(picolm.load_config(None, overrides), name="run", runs_dir=tmp_path)
    config = picolm.load_config(None, run.identity["config"])
    size = capture_size(config)
    assert tensor_bytes(capture_path(run.path, 0)) == size.at_start
    for step in (2, 4):
        assert tensor_bytes(capture_path(run.path, step)) == size.later
    assert all(part > 0 for name, part in size.parts.items() if name != "train_batch")
    probes = sum(tensor_bytes(probe_path(run.path, name)) for name in ("a", "b"))
    assert probes == pytest.approx(size.probes, rel=0.02)
    assert size.total([0, 2, 4]) == size.probes + size.at_start + 2 * size.later
    assert run.attempts[0]["forecast"]["capture_bytes"] == size.total([0, 2, 4])


def test_figures_by_hand() -> None:
    config = picolm.load_config(None, {**BASE, "capture.gradients": ["layers.0.mlp.up_proj"]})
    size = capture_size(config)
    assert size.parts["activations"] == 32 * 32 * (6 * 48) * 4
    assert size.parts["token_losses"] == 32 * 32 * 4
    assert size.parts["gradients"] == 48 * 80 * 4
    assert size.later == size.at_start == sum(size.parts.values())
    one = capture_size(picolm.load_config(None, {**BASE, "capture.positions": [-1], "capture.dtype": "bf16"}))
    assert one.parts["activations"] == 32 * 1 * (6 * 48) * 2


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def test_too_large_a_capture_is_refused_and_told_what_would_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = picolm.load_config(None, {**BASE, "capture.budget_gb": 0.001})
    with pytest.raises(PicoLMError, match=r"10 captures would take 11\.9 MB .* capture\.budget_gb=0\.001") as refused:
        check_room(config, tmp_path)
    sentence = str(refused.value)
    assert "capture.positions=[-1]" in sentence and "capture.dtype=bf16" in sentence
    rows = int(sentence.partition("from 32 to ")[2].partition(",")[0])
    fitting = picolm.load_config(
        None, {**BASE, "capture.budget_gb": 0.001, "capture.probes": {"held_out": {"sequences": rows}}}
    )
    check_room(fitting, tmp_path)
    matrices: Overrides = {
        "capture.moments": ["embedding", "layers.*.mlp.*_proj"],
        "capture.activations": [],
        "capture.token_losses": False,
    }
    with pytest.raises(PicoLMError, match=r"name fewer matrices in capture\.moments"):
        check_room(picolm.load_config(None, {**BASE, **matrices, "capture.budget_gb": 1e-5}), tmp_path)

    free = Disk(10**12, 10**12 - 5_000_000, 5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    enough = picolm.load_config(None, BASE)
    with pytest.raises(PicoLMError, match=r"on disk, but .*runs/new has 5\.0 MB left"):
        check_room(enough, tmp_path / "runs" / "new")
    check_room(enough, tmp_path, after=70)
    check_room(picolm.load_config(None, {**BASE, "capture.every": 0, "capture.budget_gb": 1e-9}), tmp_path)


def test_a_run_that_is_refused_is_not_begun(small_run: Overrides, tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match=r"more than capture\.budget_gb"):
        picolm.train(
            picolm.load_config(None, {**small_run, "capture.every": 1, "capture.budget_gb": 1e-4}),
            name="run",
            runs_dir=tmp_path,
        )
    assert not (tmp_path / "run").exists()
