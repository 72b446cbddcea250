import json
from pathlib import Path
from typing import Any

import pytest
import torch

from picolm.config import schema
from picolm.config.loading import load_config
from picolm.errors import PicoLMError
from picolm.model.huggingface import SpecialTokens, load_model, save_model
from picolm.model.initialization import build_model

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

SPECIAL = SpecialTokens(separator=0, pad=1, mask=2)
VARIANTS: dict[str, dict[str, Any]] = {
    "causal": {},
    "tied": {"tied": True, "init": {"scheme": "depth_scaled"}},
    "qk_norm": {"qk_norm": True},
    "bidirectional": {"attention": "bidirectional"},
    "bidirectional tied": {"attention": "bidirectional", "tied": True, "init": {"scheme": "depth_scaled"}},
}
CLASSES = {"causal": "LlamaForCausalLM", "tied": "LlamaForCausalLM", "qk_norm": "Qwen3ForCausalLM"}


def largest_difference(preset: str, variant: str, directory: Path, length: int) -> float:
    """Save with PicoLM, open with transformers, compare the logits of a batch with a padded row."""
    config = schema.Model.model_validate({**load_config(preset).model.model_dump(), **VARIANTS[variant]})
    model = build_model(config, seed=0).eval()
    save_model(model, directory, SPECIAL)
    auto = transformers.AutoModelForCausalLM if config.attention == "causal" else transformers.AutoModelForMaskedLM
    twin = auto.from_pretrained(directory).eval()
    assert type(twin).__name__ == CLASSES.get(variant, "EuroBertForMaskedLM")
    assert sum(p.numel() for p in twin.parameters()) == sum(p.numel() for p in model.parameters())
    tokens = torch.randint(3, 50304, (2, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, length, dtype=torch.bool)
    mask[0, : length // 4] = False
    with torch.no_grad():
        whole = (model.logits(model(tokens)) - twin(tokens).logits).abs().max()
        theirs = twin(tokens, attention_mask=mask.long(), position_ids=torch.arange(length)[None]).logits
        padded = (model.logits(model(tokens, attention_mask=mask)) - theirs)[mask].abs().max()
    return max(whole.item(), padded.item())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_transformers_gives_the_same_logits(preset: str, variant: str, tmp_path: Path) -> None:
    assert largest_difference(preset, variant, tmp_path, length=64) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("preset", ["medium", "large"])
def test_transformers_gives_the_same_logits_for_the_larger_presets(preset: str, variant: str, tmp_path: Path) -> None:
    assert largest_difference(preset, variant, tmp_path, length=32) < 1e-5


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    config = schema.Model(vocab_size=40, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, d_ffn=24, max_length=32)
    save_model(build_model(config, seed=0), tmp_path, SPECIAL)
    return tmp_path


def test_a_saved_model_is_read_back_to_the_bit(saved: Path) -> None:
    model = load_model(saved)
    original = build_model(model.config, seed=0)
    assert model.config.max_length == 32
    for name, parameter in original.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name))


def test_a_directory_that_transformers_wrote_opens_too(saved: Path, tmp_path: Path) -> None:
    twin = transformers.AutoModelForCausalLM.from_pretrained(saved)
    twin.save_pretrained(tmp_path / "theirs")
    model = load_model(tmp_path / "theirs")
    tokens = torch.tensor([[3, 4, 5, 6]])
    torch.testing.assert_close(model.logits(model(tokens)), twin(tokens).logits, rtol=0, atol=1e-6)


def test_weights_are_as_readable_as_the_files_beside_them(saved: Path) -> None:
    assert (saved / "model.safetensors").stat().st_mode == (saved / "config.json").stat().st_mode


def test_special_tokens_and_rotary_base_stand_where_both_major_versions_look(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    assert [config[f"{name}_token_id"] for name in ("bos", "eos", "pad", "mask")] == [0, 0, 1, 2]
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 10000.0
    assert "auto_map" not in config


def corrupt(directory: Path, **changes: object) -> None:
    file = directory / "config.json"
    config = json.loads(file.read_text())
    for key, value in changes.items():
        config.pop(key) if value is None else config.update({key: value})
    file.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_type": "gpt2"}, "describes a 'gpt2' model; PicoLM opens eurobert, llama, mistral, qwen3"),
        ({"hidden_size": None}, "lacks the field 'hidden_size'"),
        ({"hidden_size": 20, "head_dim": 10}, "has shape"),
        ({"head_dim": 4}, "heads of width 4"),
        ({"num_hidden_layers": 2}, "lacks the tensor 'model.layers.1"),
        ({"tie_word_embeddings": False, "num_hidden_layers": 1, "attention_bias": True}, "biases"),
        ({"num_attention_heads": 3, "head_dim": None}, "d_model 16 is not a multiple of n_heads 3"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rotary scaling 'yarn'"),
    ],
)
def test_a_wrong_configuration_is_refused(saved: Path, changes: dict[str, object], sentence: str) -> None:
    corrupt(saved, **changes)
    with pytest.raises(PicoLMError, match=sentence):
        load_model(saved)


def test_damaged_weights_are_refused(saved: Path) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(PicoLMError, match=r"model\.safetensors' is damaged"):
        load_model(saved)
    weights.write_bytes(b"")
    with pytest.raises(PicoLMError, match="is damaged"):
        load_model(saved)
    weights.unlink()
    with pytest.raises(PicoLMError, match=r"has no model\.safetensors"):
        load_model(saved)
