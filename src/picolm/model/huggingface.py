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
from torch import Tensor

from picolm.config import schema
from picolm.config.loading import explain
from picolm.errors import PicoLMError
from picolm.model.files import WEIGHTS, load_tensors, locate_tensors, read_json, read_tensors, save_tensors
from picolm.model.interface import LanguageModel
from picolm.model.transformer import Transformer

_ARCHITECTURES: dict[tuple[Literal["causal", "bidirectional"], bool], tuple[str, str]] = {
    ("causal", False): ("LlamaForCausalLM", "llama"),
    ("causal", True): ("Qwen3ForCausalLM", "qwen3"),
    ("bidirectional", False): ("EuroBertForMaskedLM", "eurobert"),
}

_READABLE = {model_type: key for key, (_, model_type) in _ARCHITECTURES.items()}
# Without its sliding window, which is asked for below, Mistral is Llama.
_READABLE["mistral"] = ("causal", False)

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

_OURS = {theirs.removeprefix("model."): ours for ours, theirs in _NAMES.items()}

LIVE = "picolm.json"
"""What a directory has in the place of `config.json` where no Hugging Face class opens it."""
FORMAT = 1


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


def our_name(name: str) -> str:
    """Translate one of Hugging Face's parameter names to ours."""
    return ".".join(_OURS.get(part, part) for part in name.removeprefix("model.").split("."))


def huggingface_config(
    config: schema.Model, special: SpecialTokens, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """The `config.json` of a model, readable by transformers 4 and 5.

    Args:
        config: the model's configuration.
        special: ids of the tokenizer's special tokens.
        dtype: precision of the stored weights.
    """
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
        "dtype": str(dtype).removeprefix("torch."),
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    if special.mask is not None:
        values["mask_token_id"] = special.mask
    return values


def huggingface_state(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's parameters on the CPU under Hugging Face's names; a tied output matrix stands once."""
    return {huggingface_name(name): tensor.detach().cpu().contiguous() for name, tensor in parameters.items()}


def save_model(model: LanguageModel, directory: Path, special: SpecialTokens) -> None:
    """Write `config.json` and `model.safetensors` into an existing directory."""
    save_weights(model.config, model.state_dict(), directory, special)


def save_weights(
    config: schema.Model, parameters: Mapping[str, Tensor], directory: Path, special: SpecialTokens
) -> None:
    """As `save_model`, from a model's configuration and its parameters by our names."""
    dtype = next(iter(parameters.values())).dtype
    text = json.dumps(huggingface_config(config, special, dtype), indent=2)
    (directory / "config.json").write_text(f"{text}\n", encoding="utf-8")
    save_tensors(huggingface_state(parameters), directory / WEIGHTS)


def save_live_weights(
    config: schema.Model, parameters: Mapping[str, Tensor], directory: Path, origin: Mapping[str, Any]
) -> None:
    """As `save_weights` for a model that no Hugging Face class equals: our own names, and `picolm.json` beside.

    Args:
        config: of the model that it is built on.
        parameters: by our names.
        directory: exists already.
        origin: what its structure comes from, for those who open it.
    """
    facts = {"format": FORMAT, "kind": "picolm-model", "config": config.model_dump(mode="json"), **origin}
    (directory / LIVE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in parameters.items()}, directory / WEIGHTS)


def read_parameters(directory: Path) -> dict[str, Tensor]:
    """All parameters of a directory that `save_weights` or `save_live_weights` wrote, by our names."""
    tensors = load_tensors(directory / WEIGHTS)
    if (directory / LIVE).is_file():
        return tensors
    return {our_name(name): tensor for name, tensor in tensors.items()}


def load_model(directory: Path) -> Transformer:
    """Open a directory that `save_model` (or `transformers`, for the same classes) wrote; weights as stored.

    Raises:
        PicoLMError: no such directory or file, another kind of model, damaged or mismatching weights.
    """
    config = model_config(read_json(directory / "config.json"), origin=directory / "config.json")
    with torch.device("meta"):
        model = Transformer(config)
    ours = {huggingface_name(name): name for name in model.state_dict()}
    shapes = {theirs: model.get_parameter(name).shape for theirs, name in ours.items()}
    # Some writers repeat a tied matrix under the output's name.
    state = read_tensors(directory, locate_tensors(directory), shapes, ignored=frozenset({"lm_head.weight"}))
    model.load_state_dict({ours[name]: tensor for name, tensor in state.items()}, strict=True, assign=True)
    return model


def model_config(values: Mapping[str, Any], *, origin: Path) -> schema.Model:
    """Read a Hugging Face configuration of one of the three classes.

    Raises:
        PicoLMError: another class, a missing field, or a feature that the Transformer here does not have.
    """
    model_type = values.get("model_type")
    if model_type == "pico_decoder":
        raise PicoLMError(f"{origin} describes an original Pico model: `picolm import` makes a directory that opens")
    if model_type not in _READABLE:
        raise PicoLMError(f"{origin} describes a '{model_type}' model; PicoLM opens {', '.join(sorted(_READABLE))}")
    _refuse_other_mathematics(values, origin)
    attention, qk_norm = _READABLE[str(model_type)]
    rope = _rope(values)
    try:
        head_dim = values["hidden_size"] // values["num_attention_heads"]
        if (values.get("head_dim") or head_dim) != head_dim:
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


def _refuse_other_mathematics(values: Mapping[str, Any], origin: Path) -> None:
    """Raise for a feature of these classes that our Transformer does not have."""
    rope = _rope(values)
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    activation = values.get("hidden_act", "silu")
    # What is absent has the default of its class, and Mistral's is a window of 4096.
    window = values.get("sliding_window", 4096 if values.get("model_type") == "mistral" else None)
    is_windowed = values.get("model_type") == "mistral" or values.get("use_sliding_window", False)
    if values.get("attention_bias") or values.get("mlp_bias"):
        raise PicoLMError(f"{origin} describes a model with biases, which PicoLM's Transformer does not have")
    if rope_type != "default":
        raise PicoLMError(f"{origin} asks for rotary scaling '{rope_type}'; PicoLM knows 'default' only")
    if rope.get("partial_rotary_factor", values.get("partial_rotary_factor", 1.0)) != 1.0:
        raise PicoLMError(f"{origin} rotates a part of each head only; PicoLM rotates all of it")
    if activation not in ("silu", "swish"):
        raise PicoLMError(f"{origin} asks for the activation '{activation}'; PicoLM knows silu (SwiGLU) only")
    if is_windowed and window is not None and window < values.get("max_position_embeddings", window + 1):
        raise PicoLMError(f"{origin} asks for a sliding window of {window} positions; PicoLM attends to all of them")
    if values.get("quantization_config"):
        raise PicoLMError(f"{origin} describes quantized weights; PicoLM reads plain ones only")


def _rope(values: Mapping[str, Any]) -> Mapping[str, Any]:
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    return rope if isinstance(rope, Mapping) else {}
