import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from picolm.assembly.models import open_model
from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.huggingface import SpecialTokens, load_model, save_model
from picolm.model.importing import import_model
from picolm.model.initialization import build_model
from picolm.runs.manifest import read_manifest, verify
from picolm.text.tokenizer import Tokenizer

ORIGINAL = {
    "model_type": "pico_decoder",
    "d_model": 48,
    "n_layers": 3,
    "vocab_size": 320,
    "batch_size": 1024,
    "max_seq_len": 64,
    "attention_n_heads": 6,
    "attention_n_kv_heads": 2,
    "activation_hidden_dim": 96,
    "norm_eps": 1e-6,
    "position_emb_theta": 500.0,
}


class OriginalNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.2 * torch.randn(48))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.weight


class OriginalAttention(nn.Module):
    """Queries and keys turned as complex numbers made of neighbouring entries, and scores written out."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.o_proj = nn.Linear(48, 48, bias=False), nn.Linear(48, 48, bias=False)
        self.k_proj, self.v_proj = nn.Linear(48, 16, bias=False), nn.Linear(48, 16, bias=False)

    def turned(self, x: Tensor) -> Tensor:
        frequencies = 500.0 ** (-torch.arange(0, 8, 2) / 8)
        angles = torch.outer(torch.arange(x.shape[1]), frequencies)
        numbers = torch.view_as_complex(x.reshape(*x.shape[:-1], 4, 2)) * torch.polar(torch.ones(()), angles)[:, None]
        return torch.view_as_real(numbers).flatten(-2)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query = self.turned(self.q_proj(x).view(batch, length, 6, 8))
        key = self.turned(self.k_proj(x).view(batch, length, 2, 8)).repeat_interleave(3, dim=2)
        value = self.v_proj(x).view(batch, length, 2, 8).repeat_interleave(3, dim=2)
        scores = torch.einsum("bihc,bjhc->bhij", query, key) / 8**0.5
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
        return self.o_proj(torch.einsum("bhij,bjhc->bihc", scores.softmax(-1), value).flatten(2))


class OriginalGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w_0, self.w_1 = nn.Linear(48, 96, bias=False), nn.Linear(48, 96, bias=False)
        self.w_2 = nn.Linear(96, 48, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(self.w_0(x) * self.w_0(x).sigmoid() * self.w_1(x))


class OriginalBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.swiglu = OriginalAttention(), OriginalGate()
        self.attention_norm, self.swiglu_norm = OriginalNorm(), OriginalNorm()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.swiglu(self.swiglu_norm(x))


class OriginalModel(nn.Module):
    """The mathematics of the original, written anew from its description (specs/pico.md 1.4)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_proj = nn.Embedding(320, 48)
        self.layers = nn.ModuleList(OriginalBlock() for _ in range(3))
        self.output_norm = OriginalNorm()
        self.de_embedding_proj = nn.Linear(48, 320, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding_proj(ids)
        for block in self.layers:
            x = block(x)
        return self.de_embedding_proj(self.output_norm(x))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_bpe(["some words to merge", "some more words"] * 4, 300)


@pytest.fixture
def original(tmp_path: Path, tokenizer: Tokenizer) -> tuple[Path, OriginalModel]:
    torch.manual_seed(4)
    model, directory = OriginalModel(), tmp_path / "original"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(ORIGINAL))
    save_file({f"pico_decoder.{n}": t for n, t in model.state_dict().items()}, directory / "model.safetensors")
    tokenizer.save(directory, 64)
    return directory, model


IDS = torch.randint(0, 320, (2, 40), generator=torch.Generator().manual_seed(0))


def logits(directory: Path) -> Tensor:
    model = load_model(directory)
    with torch.no_grad():
        return model.logits(model(IDS))


@pytest.mark.parametrize("prefix", ["pico_decoder.", ""])
def test_an_original_checkpoint_gives_the_same_logits(
    original: tuple[Path, OriginalModel], prefix: str, tmp_path: Path
) -> None:
    source, model = original
    save_file({f"{prefix}{n}": t for n, t in model.state_dict().items()}, source / "model.safetensors")
    imported = import_model(source, tmp_path / "ours")
    with torch.no_grad():
        expected = model(IDS)
    assert expected.std() > 0.3
    torch.testing.assert_close(logits(tmp_path / "ours"), expected, rtol=0, atol=1e-5)
    assert imported.parameters == sum(p.numel() for p in model.parameters())
    assert imported.model_type == "pico_decoder" and len(imported.notes) == 1
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert (
        open_model(tmp_path / "ours")[1].encode("some words").tolist()
        == Tokenizer.load(source).encode("some words").tolist()
    )
    manifest = read_manifest(tmp_path / "ours")
    assert not verify(tmp_path / "ours") and manifest["origin"]["model_type"] == "pico_decoder"
    assert set(manifest["origin"]["sha256"]) == {"config.json", "model.safetensors"}


def test_without_the_reordering_the_logits_would_be_others(
    original: tuple[Path, OriginalModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("picolm.model.pico.half_split", lambda weight, head_dim: weight)
    import_model(original[0], tmp_path / "ours")
    with torch.no_grad():
        assert (logits(tmp_path / "ours") - original[1](IDS)).abs().max() > 1e-2


def llama(directory: Path, tokenizer: Tokenizer, **changes: object) -> Path:
    config = schema.Model(vocab_size=320, d_model=48, n_layers=2, n_heads=6, n_kv_heads=2, d_ffn=64, max_length=64)
    directory.mkdir(exist_ok=True)
    save_model(build_model(config, seed=3), directory, SpecialTokens(0, 1, 2))
    tokenizer.save(directory, 64)
    change(directory, **changes)
    return directory


def change(directory: Path, **changes: object) -> None:
    values = json.loads((directory / "config.json").read_text()) | changes
    (directory / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def split_into_shards(directory: Path) -> None:
    """Write the weights as large models have them: several files and an index."""
    state = load_file(directory / "model.safetensors")
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map = {name: files[number % 2] for number, name in enumerate(sorted(state))}
    for file in files:
        save_file({name: state[name] for name in state if weight_map[name] == file}, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (directory / "model.safetensors").unlink()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_llama_like_directory_is_widened_and_made_whole(
    sharded: bool, dtype: torch.dtype, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    source = llama(tmp_path / "source", tokenizer, model_type="mistral", sliding_window=4096, bos_token_id=5)
    state = {name: tensor.to(dtype) for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(state, source / "model.safetensors")
    if sharded:
        split_into_shards(source)
    imported = import_model(source, tmp_path / "ours")
    written = load_file(tmp_path / "ours" / "model.safetensors")
    assert written.keys() == state.keys()
    for name, tensor in written.items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, state[name].float())
    assert len(imported.notes) == (dtype != torch.float32)
    assert str(dtype).removeprefix("torch.") in "".join(imported.notes) or dtype == torch.float32
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["model_type"] == "llama" and config["bos_token_id"] == 5 and config["eos_token_id"] == 0


def test_the_files_of_a_tokenizer_are_kept_without_code(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = llama(tmp_path / "source", tokenizer)
    settings = {"tokenizer_class": "Odd", "auto_map": {"AutoTokenizer": ["odd.py", None]}, "bos_token": "<pad>"}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    import_model(source, tmp_path / "ours")
    kept = json.loads((tmp_path / "ours" / "tokenizer_config.json").read_text())
    assert kept == {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<pad>"}
    assert (tmp_path / "ours" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()


def test_a_tokenizer_can_be_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = llama(tmp_path / "source", tokenizer)
    (source / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(PicoLMError, match="name the model's tokenizer with --tokenizer"):
        import_model(source, tmp_path / "ours")
    import_model(source, tmp_path / "ours", tokenizer=tmp_path / "elsewhere.json")
    assert open_model(tmp_path / "ours")[1].fingerprint == tokenizer.fingerprint
    large = Tokenizer.characters([chr(code) for code in range(0x4E00, 0x4F80)])
    (tmp_path / "large.json").write_text(large.to_json())
    with pytest.raises(PicoLMError, match="they do not belong together"):
        import_model(source, tmp_path / "other", tokenizer=tmp_path / "large.json")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_type": "gpt2"}, "describes a 'gpt2' model"),
        ({"attention_bias": True}, "biases"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rotary scaling 'linear'"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "a part of each head"),
        ({"model_type": "mistral", "sliding_window": 32}, "sliding window of 32"),
        ({"model_type": "mistral", "max_position_embeddings": 8192}, "sliding window of 4096"),
        ({"use_sliding_window": True, "sliding_window": 16}, "sliding window of 16"),
        ({"head_dim": 16}, "heads of width 16"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"model_type": "pico_decoder"}, "lacks the field 'd_model'"),
    ],
)
def test_other_mathematics_is_refused(
    changes: dict[str, object], sentence: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    source = llama(tmp_path / "source", tokenizer, **changes)
    with pytest.raises(PicoLMError, match=sentence):
        import_model(source, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_window_that_reaches_everywhere_is_none(tmp_path: Path, tokenizer: Tokenizer) -> None:
    import_model(llama(tmp_path / "source", tokenizer, sliding_window=16), tmp_path / "ours")
    import_model(llama(tmp_path / "mistral", tokenizer, model_type="mistral", head_dim=None), tmp_path / "theirs")
    assert torch.equal(logits(tmp_path / "ours"), logits(tmp_path / "theirs"))


def test_pickle_is_refused_and_never_opened(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = llama(tmp_path / "source", tokenizer)
    (source / "model.safetensors").unlink()
    payload = b"cos\nmkdir\n(S'" + bytes(tmp_path / "ran") + b"'\ntR."
    pickle.loads(payload)
    (tmp_path / "ran").rmdir()  # it was made: opening these bytes runs code
    (source / "pytorch_model.bin").write_bytes(payload)
    with pytest.raises(PicoLMError, match=r"as pickle \(pytorch_model.bin\).*save_pretrained"):
        import_model(source, tmp_path / "ours")
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_no_plain_numbers_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = llama(tmp_path / "source", tokenizer)
    state = load_file(source / "model.safetensors")
    save_file({name: tensor.to(torch.float64) for name, tensor in state.items()}, source / "model.safetensors")
    with pytest.raises(PicoLMError, match="weights of type float64"):
        import_model(source, tmp_path / "ours")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "code.bin", 3])
def test_an_index_that_points_elsewhere_is_refused(name: object, tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = llama(tmp_path / "source", tokenizer)
    split_into_shards(source)
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
    with pytest.raises(PicoLMError, match="no safetensors file beside it"):
        import_model(source, tmp_path / "ours")


def test_a_missing_shard_or_tensor_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = llama(tmp_path / "source", tokenizer)
    split_into_shards(source)
    shard = source / "model-00002-of-00002.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-8])
    with pytest.raises(PicoLMError, match="is damaged"):
        import_model(source, tmp_path / "ours")
    shard.unlink()
    with pytest.raises(PicoLMError, match="it has no model-00002-of-00002"):
        import_model(source, tmp_path / "ours")
    with pytest.raises(PicoLMError, match="there is no directory"):
        import_model(tmp_path / "nowhere", tmp_path / "ours")


def test_opening_an_original_checkpoint_says_how_to_import_it(original: tuple[Path, OriginalModel]) -> None:
    with pytest.raises(PicoLMError, match="`picolm import`"):
        load_model(original[0])
