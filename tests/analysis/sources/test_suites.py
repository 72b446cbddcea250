"""Folders of Hugging Face revisions, and what `open_source` makes of any folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from picolm.analysis.opening import open_source
from picolm.analysis.source import digest_of
from picolm.analysis.sources.suite import step_in
from picolm.errors import PicoLMError

Suites = dict[str, tuple[Path, dict[int, nn.Module]]]
Saved = Callable[[str], tuple[Path, nn.Module]]


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_suite_of_step_folders(size: str, neox_suites: Suites) -> None:
    root, models = neox_suites[size]
    source = open_source(root)
    assert (source.kind, source.steps, source.capture_steps, source.notes) == (
        "suite of revisions",
        (0, 1, 512, 1000),
        (),
        (),
    )
    assert source.tokenizer is None
    seen = set()
    for step in source.steps:
        snapshot = source.snapshot(step)
        fused = models[step].get_parameter("gpt_neox.layers.2.attention.query_key_value.weight").view(4, 3, 8, 32)
        weights = snapshot.read(["layers.2.attention.v_proj", "layers.2.mlp.down_proj"])
        assert torch.equal(weights["layers.2.attention.v_proj"], fused[:, 2].reshape(32, 32))
        assert torch.equal(
            weights["layers.2.mlp.down_proj"], models[step].get_parameter("gpt_neox.layers.2.mlp.dense_4h_to_h.weight")
        )
        seen |= {snapshot.digest, digest_of(weights["layers.2.mlp.down_proj"])}
    assert len(seen) == 8
    shards = len(list((root / "step512").glob("*.safetensors")))
    assert shards == 1 if size == "small" else shards > 2


def test_the_layout_of_a_cache_of_the_hub(neox_suites: Suites, tmp_path: Path) -> None:
    root, models = neox_suites["small"]
    cache = tmp_path / "models--EleutherAI--pythia-14m"
    (cache / "refs").mkdir(parents=True)
    for step, commit in ((0, "0a1b"), (512, "2c3d"), (1000, "4e5f")):
        (cache / "refs" / f"step{step}").write_text(commit)
        shutil.copytree(root / f"step{step}", cache / "snapshots" / commit)
    (cache / "refs" / "main").write_text("4e5f")
    source = open_source(cache)
    assert source.steps == (0, 512, 1000)
    assert [note.endswith("its name 'main' tells no step") for note in source.notes] == [True]
    down = source.snapshot(512).read(["layers.0.mlp.down_proj"])["layers.0.mlp.down_proj"]
    assert torch.equal(down, models[512].get_parameter("gpt_neox.layers.0.mlp.dense_4h_to_h.weight"))


def test_steps_in_names() -> None:
    names = {
        "step1000": 1000,
        "step-00001000": 1000,
        "step_7": 7,
        "checkpoint-500": 500,
        "step1000-tokens4B": 1000,
        "main": None,
        "steps": None,
        "v1.0": None,
    }
    assert {name: step_in(name) for name in names} == names


def test_one_model_by_itself(saved: Saved, tmp_path: Path) -> None:
    path, _ = saved("gpt2")
    assert open_source(path).steps == (0,)
    shutil.copytree(path, tmp_path / "step12")
    (tmp_path / "step12" / "tokenizer.json").write_text("{}")
    source = open_source(str(tmp_path / "step12"))
    assert (source.kind, source.steps) == ("model", (12,))
    assert source.tokenizer == tmp_path / "step12" / "tokenizer.json"
    with pytest.raises(PicoLMError, match="has no checkpoint of step 3; it has: 12"):
        source.snapshot(3)
    with pytest.raises(PicoLMError, match="has no capture of step 12; it has: none"):
        source.capture(12)
    with pytest.raises(PicoLMError, match=r"no matrix 'layers\.0\.mlp\.gate_proj'; did you mean"):
        source.snapshot(12).read(["layers.0.mlp.gate_proj"])


def test_weights_of_torch_save_are_read_too(saved: Saved, tmp_path: Path, tokens: torch.Tensor) -> None:
    path, model = saved("bert")
    shutil.copy(path / "config.json", tmp_path / "config.json")
    # Old conversions call the weights and biases of norms gamma and beta.
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in model.state_dict().items()
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    ours, theirs = open_source(tmp_path).snapshot(0), open_source(path).snapshot(0)
    assert set(ours.shapes) == set(theirs.shapes)
    expected = theirs.read(theirs.shapes)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.read(ours.shapes).items())
    with torch.no_grad():
        torch.testing.assert_close(ours.subject().module(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox"])
def test_files_as_older_versions_wrote_them(name: str, saved: Saved, tmp_path: Path, tokens: torch.Tensor) -> None:
    """Names without a prefix, and masks and tables beside the parameters, as in the published GPT-2 and Pythia."""
    path, model = saved(name)
    shutil.copy(path / "config.json", tmp_path / "config.json")
    state = load_file(path / "model.safetensors")
    if name == "gpt2":
        state = {key.removeprefix("transformer."): tensor for key, tensor in state.items()}
        state |= {"h.1.attn.bias": torch.ones(1, 1, 64, 64), "h.1.attn.masked_bias": torch.tensor(-1e9)}
    else:
        at = "gpt_neox.layers.1.attention"
        state |= {f"{at}.bias": torch.ones(1, 1, 64, 64), f"{at}.masked_bias": torch.tensor(-1e9)}
        state |= {f"{at}.rotary_emb.inv_freq": torch.ones(1)}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ours, theirs = open_source(tmp_path).snapshot(0), open_source(path).snapshot(0)
    assert dict(ours.shapes) == dict(theirs.shapes)
    with torch.no_grad():
        torch.testing.assert_close(ours.subject().module(tokens).logits, model(tokens).logits)


def test_code_beside_a_checkpoint_is_not_run(saved: Saved, tmp_path: Path, tokens: torch.Tensor) -> None:
    path, trace = tmp_path / "model", tmp_path / "it-ran"
    shutil.copytree(saved("gpt_neox")[0], path)
    (path / "modeling_evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass Evil: ...\n")
    values = json.loads((path / "config.json").read_text())
    named = {kind: "modeling_evil.Evil" for kind in ("AutoConfig", "AutoModelForCausalLM")}
    (path / "config.json").write_text(json.dumps({**values, "auto_map": named}))
    with torch.no_grad():
        open_source(path).snapshot(0).subject().module(tokens)
    assert not trace.exists()


def test_links_to_other_disks_count_as_folders(neox_suites: Suites, tmp_path: Path) -> None:
    for step in (0, 1000):
        (tmp_path / f"step{step}").symlink_to(neox_suites["small"][0] / f"step{step}")
    (tmp_path / "latest").symlink_to("step1000")
    source = open_source(tmp_path)
    assert source.steps == (0, 1000) and [("latest" in note) for note in source.notes] == [True]


def test_a_model_that_lacks_a_part_is_not_run(saved: Saved, tmp_path: Path) -> None:
    shutil.copy(saved("gpt_neox")[0] / "config.json", tmp_path / "config.json")
    state = load_file(saved("gpt_neox")[0] / "model.safetensors")
    del state["gpt_neox.layers.1.post_attention_layernorm.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    snapshot = open_source(tmp_path).snapshot(0)
    assert snapshot.read(["layers.1.mlp.up_proj"])
    with pytest.raises(
        PicoLMError, match=r"lacks 'layers\.1\.mlp_norm', which the GPTNeoXForCausalLM of transformers has"
    ):
        snapshot.subject()


@pytest.fixture
def suite(neox_suites: Suites, tmp_path: Path) -> Path:
    shutil.copytree(neox_suites["small"][0], tmp_path / "suite")
    return tmp_path / "suite"


def test_half_downloaded_folders_are_told_and_left_out(suite: Path) -> None:
    (suite / "step512" / "model.safetensors").unlink()
    (suite / "step2000").mkdir()
    source = open_source(suite)
    assert source.steps == (0, 1, 1000)
    assert [note.split(" is left out")[0] for note in source.notes] == [str(suite / "step2000"), str(suite / "step512")]
    (suite / "again-step1").mkdir()
    for file in (suite / "step1").iterdir():
        shutil.copy(file, suite / "again-step1")
    with pytest.raises(PicoLMError, match="are both of step 1"):
        open_source(suite)


def test_damage_is_named_where_it_is_met(suite: Path) -> None:
    weights = suite / "step1000" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    source = open_source(suite)
    assert source.steps == (0, 1, 512, 1000)
    assert source.snapshot(512).read(["embedding"])
    with pytest.raises(PicoLMError, match=r"step1000/model\.safetensors' is damaged"):
        source.snapshot(1000)


def test_contradictions_between_configuration_and_weights_are_refused(suite: Path) -> None:
    file = suite / "step0" / "config.json"
    values = json.loads(file.read_text())
    for changes, sentence in (
        ({"num_attention_heads": 5}, "5 heads fit neither"),
        ({"num_attention_heads": 5, "head_dim": None}, "5 heads fit neither"),
        ({"hidden_size": 64}, r"'embedding' has shape \[61, 32\], its configuration says \[61, 64\]"),
        ({"num_hidden_layers": 4}, r"lacks the matrix 'layers\.3\.attention\.q_proj'"),
        ({"num_hidden_layers": 2}, "has more layers than the 2"),
        ({"vocab_size": None}, "must say 'vocab_size' as a number above 0"),
        ({"model_type": "mamba"}, "describes a 'mamba' model; the names of these are known: bert, "),
        ({"model_type": None}, "describes a 'None' model"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        # Another number of heads cuts the fused matrix elsewhere: allowed by itself, but not within one suite.
        ({"num_attention_heads": 8}, "is another model than the other checkpoints"),
    ):
        file.write_text(json.dumps({**values, **changes}))
        with pytest.raises(PicoLMError, match=sentence):
            open_source(suite).snapshot(0)


def test_what_is_no_source_is_answered_in_a_sentence(tmp_path: Path, suite: Path) -> None:
    with pytest.raises(PicoLMError, match=r"there is no directory '.*suit'; did you mean 'suite'"):
        open_source(suite.parent / "suit")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PicoLMError, match=r"is no run .* and no suite of models"):
        open_source(tmp_path / "empty")
    (tmp_path / "empty" / "step1").mkdir()
    with pytest.raises(PicoLMError, match="step1 is left out: it is not a whole model"):
        open_source(tmp_path / "empty")


def test_reading_weights_needs_no_transformers(neox_suites: Suites, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    source = open_source(neox_suites["small"][0])
    monkeypatch.setitem(sys.modules, "transformers", None)
    snapshot = source.snapshot(512)
    assert snapshot.read(snapshot.shapes)
    with pytest.raises(PicoLMError, match=r"need transformers: pip install 'picolm\[transformers\]'"):
        snapshot.subject()
