"""PicoLM runs: what is computed anew equals what the run captured, and damage is named."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import picolm
from picolm.analysis.opening import open_source
from picolm.analysis.probe import Probe, token_rows
from picolm.analysis.subject import look
from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.huggingface import load_model, save_live_weights
from picolm.model.initialization import build_model


def test_weights_of_a_run(run: Path) -> None:
    source = open_source(run)
    assert (source.kind, source.steps, source.capture_steps, source.notes) == ("PicoLM run", (0, 4, 8), (4, 8), ())
    assert source.tokenizer == run / "checkpoints" / "step-00000008" / "tokenizer.json"
    snapshot = source.snapshot(4)
    theirs = load_file(run / "checkpoints" / "step-00000004" / "model.safetensors")
    found = snapshot.read(snapshot.shapes)
    assert torch.equal(found["layers.1.attention.k_proj"], theirs["model.layers.1.self_attn.k_proj.weight"])
    assert torch.equal(found["layers.1.mlp_norm"], theirs["model.layers.1.post_attention_layernorm.weight"])
    assert torch.equal(found["unembedding"], theirs["lm_head.weight"]) and len(found) == len(theirs)
    # The same weights in another place have the same digest.
    assert len({source.snapshot(step).digest for step in source.steps}) == 3


def test_what_is_computed_equals_what_was_captured(run: Path) -> None:
    source = open_source(run)
    probe = source.probe("held_out")
    assert probe is not None
    for step in source.capture_steps:
        capture, subject = source.capture(step), source.snapshot(step).subject()
        assert capture.probes == ("held_out", "train")
        sites, gradients = capture.names("activation", "held_out"), capture.names("gradient", "held_out")
        assert set(sites) == {"residual.0", "residual.1", "residual.2"} | {
            f"layers.{layer}.attention.{name}" for layer in range(2) for name in ("v_proj", "pattern")
        }
        assert gradients == ("layers.0.attention.o_proj", "layers.1.attention.o_proj")
        stored = capture.read("activation", sites, "held_out") | capture.read("gradient", gradients, "held_out")
        seen = look(subject, probe, activations=sites, gradients=gradients, token_losses=True)
        real = capture.real("held_out")
        assert torch.equal(real, probe.real)
        for name, tensor in (seen.activations | seen.gradients).items():
            if name in sites:
                tensor, expected = token_rows(tensor, real), token_rows(stored[name], real)
            else:
                expected = stored[name]
            torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
        losses = capture.read("token_loss", ["causal"], "held_out")["causal"]
        torch.testing.assert_close(seen.token_losses, losses, equal_nan=True, rtol=1e-5, atol=1e-5)


def test_the_training_batch_and_updates(run: Path) -> None:
    source = open_source(run)
    capture = source.capture(8)
    rows = capture.tokens("train")
    assert rows is not None and rows.shape == (8, 32) and rows.dtype == torch.int64
    sites = capture.names("activation", "train")
    stored = capture.read("activation", sites, "train")
    seen = look(source.snapshot(8).subject(), Probe(rows), activations=sites).activations
    for name in sites:
        torch.testing.assert_close(seen[name], stored[name], rtol=1e-4, atol=1e-5)
    assert capture.real("train").shape == (8, 32) and capture.real("train").all()
    assert capture.tokens("held_out") is None
    names = capture.names("update", None)
    assert names == ("layers.0.attention.o_proj", "layers.1.attention.o_proj")
    assert capture.read("update", names[:1], None)[names[0]].shape == (32, 32)


def test_chosen_positions_of_rows_that_are_too_short_are_not_real(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    rows = load_file(copy / "captures" / "probes" / "held_out.safetensors")
    rows["valid"] = torch.tensor([33, 2, 32])
    save_file(rows, copy / "captures" / "probes" / "held_out.safetensors")
    manifest = copy / "captures" / "step-00000004" / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "positions": [0, -1, 2, -3, 31]}))
    real = open_source(copy).capture(4).real("held_out")
    # Rows have 32, 2 and 32 input positions of text.
    assert real.tolist() == [[True] * 5, [True, True, False, False, False], [True] * 5]
    probe = open_source(copy).probe("held_out")
    assert probe is not None and probe.real.sum(1).tolist() == [32, 2, 32]


def test_one_checkpoint_of_a_run(run: Path, tmp_path: Path) -> None:
    source = open_source(run / "checkpoints" / "step-00000004")
    assert (source.path, source.steps, source.capture_steps) == (run, (4,), (4,))
    # Outside of its run it is a model like any other.
    shutil.copytree(run / "checkpoints" / "step-00000004", tmp_path / "elsewhere")
    alone = open_source(tmp_path / "elsewhere")
    assert (alone.kind, alone.steps, alone.geometry) == ("model", (0,), source.geometry)
    assert alone.snapshot(0).digest == source.snapshot(4).digest


def test_a_run_whose_attention_stops_at_documents_is_shown_them(
    run: Path, corpus: Path, tmp_path: Path, small_run: dict[str, object]
) -> None:
    bordered = {
        **small_run,
        "data.document_borders": True,
        "training.steps": 2,
        "schedule.warmup_steps": 1,
        "capture.at": [2],
        "capture.activations": ["layers.*.attention.pattern", "hidden"],
        "capture.probes": {"held_out": {"sequences": 2}},
    }
    picolm.train(picolm.load_config(None, bordered), name="bordered", runs_dir=tmp_path)
    source = open_source(tmp_path / "bordered")
    probe, pattern = source.probe("held_out"), "layers.0.attention.pattern"
    assert probe is not None and probe.documents is not None and len(probe.documents.unique()) > 2
    seen = look(source.snapshot(2).subject(), probe, activations=[pattern, "hidden"]).activations
    stored = source.capture(2).read("activation", [pattern, "hidden"], "held_out")
    for name in (pattern, "hidden"):
        torch.testing.assert_close(seen[name], stored[name], rtol=1e-4, atol=1e-5)
    together = probe.documents[:, :, None] == probe.documents[:, None, :]
    assert not seen[pattern].masked_select(~together[:, None]).any()
    whole = open_source(run).probe("held_out")
    assert whole is not None and whole.documents is None


def test_what_is_damaged_is_named_and_left_out(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    weights = copy / "checkpoints" / "step-00000004" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    (copy / "checkpoints" / "step-00000000" / "manifest.json").unlink()
    captured = copy / "captures" / "step-00000004" / "held_out.safetensors"
    captured.write_bytes(captured.read_bytes() + b"more")
    source = open_source(copy)
    assert source.steps == (8,) and source.capture_steps == (8,)
    first, second, third = source.notes
    assert first.startswith(f"{copy / 'checkpoints' / 'step-00000000'} is left out: ") and "manifest.json" in first
    assert re.search(r"step-00000004 is left out: .*model\.safetensors has \d+ bytes, the manifest says", second)
    assert re.search(r"step-00000004 is left out: .*held_out\.safetensors has \d+ bytes, the manifest says", third)
    with pytest.raises(PicoLMError, match="has no checkpoint of step 4; it has: 8"):
        source.snapshot(4)
    with pytest.raises(PicoLMError, match=r"model\.safetensors has \d+ bytes, the manifest says"):
        open_source(weights.parent)
    with pytest.raises(PicoLMError, match="has no checkpoint of step 5; it has: 8"):
        source.snapshot(5)
    with pytest.raises(PicoLMError, match="has no probe 'heldout'; did you mean 'held_out'"):
        source.probe("heldout")
    whole = source.capture(8)
    with pytest.raises(PicoLMError, match=r"has no activation 'residual\.3'; did you mean 'residual\."):
        whole.read("activation", ["residual.3"], "held_out")
    with pytest.raises(PicoLMError, match="has no probe 'nursery'"):
        whole.names("activation", "nursery")
    shutil.rmtree(copy / "checkpoints")
    shutil.rmtree(copy / "captures")
    with pytest.raises(PicoLMError, match="has neither a checkpoint nor a capture yet"):
        open_source(copy)


def test_the_live_form_of_a_model_is_read_but_not_run(run: Path, tmp_path: Path) -> None:
    """What an intervention added stands beside the rest, under the name that it has in the model."""
    config = schema.Model(vocab_size=50, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1, d_ffn=24, tied=True)
    parameters = dict(build_model(config, seed=0).named_parameters())
    added = {"layers.0.attention.q_proj.lora_a": torch.ones(2, 16), "layers.0.attention.q_proj.scale": torch.ones(())}
    live = tmp_path / "step-7"
    live.mkdir()
    save_live_weights(config, {**parameters, **added}, live, {"interventions": ["adapters"]})
    source = open_source(live)
    assert source.steps == (7,) and source.geometry.architecture == "picolm"
    snapshot = source.snapshot(7)
    assert snapshot.shapes["layers.0.attention.q_proj.lora_a"] == (2, 16)
    assert snapshot.shapes["unembedding"] == (50, 16)
    assert torch.equal(
        snapshot.read(["layers.1.mlp.up_proj"])["layers.1.mlp.up_proj"], parameters["layers.1.mlp.up_proj.weight"]
    )
    with pytest.raises(PicoLMError, match="that its run's interventions build: its matrices can be read"):
        snapshot.subject()


def test_a_bidirectional_run_shows_its_probes_uncorrupted(
    corpus: Path, tmp_path: Path, small_run: dict[str, object]
) -> None:
    masked = {
        **small_run,
        "model.attention": "bidirectional",
        "objective.kind": "masked",
        "training.steps": 2,
        "schedule.warmup_steps": 1,
        "capture.at": [2],
        "capture.probes": {"held_out": {"sequences": 2}},
    }
    picolm.train(picolm.load_config(None, masked), name="masked", runs_dir=tmp_path)
    source = open_source(tmp_path / "masked")
    probe = source.probe("held_out")
    assert probe is not None and probe.targets is None and not source.geometry.causal
    rows = load_file(tmp_path / "masked" / "captures" / "probes" / "held_out.safetensors")
    assert torch.equal(probe.input_ids, rows["tokens"][:, :-1])
    seen = look(source.snapshot(2).subject(), probe, activations=["hidden"]).activations["hidden"]
    with torch.no_grad():
        expected = load_model(tmp_path / "masked" / "checkpoints" / "step-00000002")(probe.input_ids)
    assert probe.real.all()
    torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-5)
