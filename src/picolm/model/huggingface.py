"""A saved model is a Hugging Face model: causal as Llama (with qk-norm: Qwen3), bidirectional as EuroBERT.

Nothing here needs `transformers`: the directory is `config.json` and `model.safetensors` with the names and the layout
that those classes have. Nothing that is loaded can execute code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from picolm.config import schema
from picolm.config.loading import explain
from picolm.errors import PicoLMError, nearest
from picolm.model.interface import LanguageModel
from picolm.model.transformer import Transformer

_ARCHITECTURES: dict[tuple[Literal["causal", "bidirectional"], bool], tuple[str, str]] = {
    ("causal", False): ("LlamaForCausalLM", "llama"),
    ("causal", True): ("Qwen3ForCausalLM", "qwen3"),
    ("bidirectional", False): ("EuroBertForMaskedLM", "eurobert"),
}

# Ours, theirs: replaced as whole path components.
_NAMES = {
    "embedding": "model.embed_tokens",
    "layers": "model.layers",
    "attention_norm": "input_layernorm",
    "attention": "self_attn",
    "mlp_norm": "post_attention_layernorm",
    "output_norm": "model.norm",
    "unembedding": "lm_head",
}


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids that a Hugging Face configuration names."""

    separator: int
    """Stands between documents; beginning and end of text at once."""
    pad: int
    mask: int | None = None


def architecture(config: schema.Model) -> str:
    """Name of the `transformers` class that opens a model of this configuration."""
    return _ARCHITECTURES[config.attention, config.qk_norm][0]


def huggingface_name(name: str) -> str:
    """Translate one of our parameter names to Hugging Face's."""
    return ".".join(_NAMES.get(part, part) for part in name.split("."))


def huggingface_config(config: schema.Model, special: SpecialTokens) -> dict[str, Any]:
    """The `config.json` of a model, readable by transformers 4 and 5."""
    class_name, model_type = _ARCHITECTURES[config.attention, config.qk_norm]
    values: dict[str, Any] = {
        "architectures": [class_name],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ffn,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_length,
        # Version 4 reads the first, version 5 the second; each ignores the other.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "rms_norm_eps": config.norm_eps,
        "initializer_range": config.init.std,
        "tie_word_embeddings": config.tied,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "bos_token_id": special.separator,
        "eos_token_id": special.separator,
        "pad_token_id": special.pad,
        "dtype": "float32",
        "torch_dtype": "float32",
    }
    if special.mask is not None:
        values["mask_token_id"] = special.mask
    return values


def huggingface_state(model: LanguageModel) -> dict[str, Tensor]:
    """The model's parameters on the CPU under Hugging Face's names; a tied output matrix stands once."""
    state = model.state_dict()
    return {huggingface_name(name): tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def save_model(model: LanguageModel, directory: Path, special: SpecialTokens) -> None:
    """Write `config.json` and `model.safetensors` into an existing directory."""
    values = huggingface_config(model.config, special)
    (directory / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    save_file(huggingface_state(model), directory / "model.safetensors", metadata={"format": "pt"})
    # safetensors lets only the owner read what it writes; colleagues should see a run's weights as they see its log.
    (directory / "model.safetensors").chmod((directory / "config.json").stat().st_mode)


def load_model(directory: Path) -> Transformer:
    """Open a directory that `save_model` (or `transformers`, for the same classes) wrote; weights as stored.

    Raises:
        PicoLMError: no such directory or file, another kind of model, damaged or mismatching weights.
    """
    config = model_config(_read_json(directory / "config.json"), origin=directory / "config.json")
    with torch.device("meta"):
        model = Transformer(config)
    expected = {huggingface_name(name): (name, tensor.shape) for name, tensor in model.state_dict().items()}
    state = _read_weights(directory / "model.safetensors", expected)
    model.load_state_dict(state, strict=True, assign=True)
    return model


def model_config(values: Mapping[str, Any], *, origin: Path) -> schema.Model:
    """Read a Hugging Face configuration of one of the three classes.

    Raises:
        PicoLMError: another class, a missing field, or a feature that the Transformer here does not have.
    """
    by_type = {model_type: key for key, (_, model_type) in _ARCHITECTURES.items()}
    model_type = values.get("model_type")
    if model_type not in by_type:
        raise PicoLMError(f"{origin} describes a '{model_type}' model; PicoLM opens {', '.join(sorted(by_type))}")
    if values.get("attention_bias") or values.get("mlp_bias"):
        raise PicoLMError(f"{origin} describes a model with biases, which PicoLM's Transformer does not have")
    attention, qk_norm = by_type[str(model_type)]
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default":
        raise PicoLMError(f"{origin} asks for rotary scaling '{rope['rope_type']}'; PicoLM knows 'default' only")
    try:
        head_dim = values["hidden_size"] // values["num_attention_heads"]
        if values.get("head_dim", head_dim) != head_dim:
            raise PicoLMError(
                f"{origin} asks for heads of width {values['head_dim']}, PicoLM only hidden_size / heads = {head_dim}"
            )
        return schema.Model(
            vocab_size=values["vocab_size"],
            d_model=values["hidden_size"],
            n_layers=values["num_hidden_layers"],
            n_heads=values["num_attention_heads"],
            n_kv_heads=values.get("num_key_value_heads") or values["num_attention_heads"],
            d_ffn=values["intermediate_size"],
            max_length=values["max_position_embeddings"],
            rope_theta=float(rope.get("rope_theta", values.get("rope_theta", 10000.0))),
            norm_eps=values["rms_norm_eps"],
            attention=attention,
            tied=values.get("tie_word_embeddings", False),
            qk_norm=qk_norm,
            init=schema.Init(std=values.get("initializer_range", 0.02)),
        )
    except KeyError as error:
        raise PicoLMError(f"{origin} lacks the field {error}") from None
    except ValidationError as error:
        raise PicoLMError(f"{origin}: {explain(error)}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PicoLMError(f"'{path.parent}' holds no model: it has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise PicoLMError(f"cannot read '{path}': {error}") from None
    if not isinstance(values, dict):
        raise PicoLMError(f"'{path}' does not hold a JSON object")
    return values


def _read_weights(path: Path, expected: Mapping[str, tuple[str, torch.Size]]) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as weights:
            stored = set(weights.keys())
            # Some writers repeat a tied matrix under the output's name.
            surplus = sorted(stored - set(expected) - {"lm_head.weight"})
            missing = sorted(set(expected) - stored)
            if missing:
                raise PicoLMError(f"'{path}' lacks the tensor '{missing[0]}'{nearest(missing[0], surplus)}")
            if surplus:
                raise PicoLMError(f"'{path}' holds a tensor '{surplus[0]}' that the model has no place for")
            state = {name: weights.get_tensor(theirs) for theirs, (name, _) in expected.items()}
    except FileNotFoundError:
        raise PicoLMError(f"'{path.parent}' holds no model: it has no {path.name}") from None
    except (OSError, SafetensorError) as error:
        raise PicoLMError(f"'{path}' is damaged or not a safetensors file: {error}") from None
    for theirs, (name, shape) in expected.items():
        if state[name].shape != shape:
            raise PicoLMError(
                f"'{path}': tensor '{theirs}' has shape {list(state[name].shape)}, config.json says {list(shape)}"
            )
    return state
