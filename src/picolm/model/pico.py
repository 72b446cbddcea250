"""The original Pico models (`pico_decoder`): a Llama under other names, with another layout of the rotary pairs.

Pico rotates neighbouring rows of each head, (2i, 2i + 1), as one complex number; Llama and PicoLM rotate (i, i + C/2).
Queries and keys meet only in products over a head, so permuting the rows of both in the same way changes nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from picolm.config import schema
from picolm.config.loading import explain
from picolm.errors import PicoLMError
from picolm.model.files import locate_tensors, read_json, read_tensors
from picolm.model.transformer import Transformer

MODEL_TYPE = "pico_decoder"
_PREFIX = "pico_decoder."
# Ours, theirs: replaced as whole path components.
_NAMES = {
    "embedding": "embedding_proj",
    "unembedding": "de_embedding_proj",
    "mlp_norm": "swiglu_norm",
    "mlp": "swiglu",
    "gate_proj": "w_0",
    "up_proj": "w_1",
    "down_proj": "w_2",
}
_OURS = {theirs: ours for ours, theirs in _NAMES.items()}


def load_pico(directory: Path) -> Transformer:
    """Open a directory with the `config.json` and the safetensors of an original Pico model; weights as stored.

    Raises:
        PicoLMError: the configuration lacks something, or the weights are missing, damaged or of another shape.
    """
    config = pico_config(read_json(directory / "config.json"), origin=directory / "config.json")
    with torch.device("meta"):
        model = Transformer(config)
    places = locate_tensors(directory)
    # Checkpoints of the Hub have the prefix of a wrapper; those of the bare decoder do not.
    prefix = _PREFIX if any(name.startswith(_PREFIX) for name in places) else ""
    theirs = {name: prefix + pico_name(name) for name in model.state_dict()}
    shapes = {theirs[name]: model.get_parameter(name).shape for name in theirs}
    stored = read_tensors(directory, places, shapes, ignored=frozenset())
    state = {name: stored[theirs[name]] for name in theirs}
    for name in state:
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            state[name] = half_split(state[name], config.head_dim)
    model.load_state_dict(state, strict=True, assign=True)
    return model


def pico_name(name: str) -> str:
    """Translate one of our parameter names to Pico's, without its prefix."""
    return ".".join(_NAMES.get(part, part) for part in name.split("."))


def our_name(name: str) -> str:
    """Translate one of Pico's parameter names, without its prefix, to ours."""
    return ".".join(_OURS.get(part, part) for part in name.split("."))


def half_split(weight: Tensor, head_dim: int) -> Tensor:
    """Reorder the rows of each head from pairs (2i, 2i + 1) to pairs (i, i + C/2).

    Args:
        weight: a query or key projection [heads * C, D].
        head_dim: width of a head, C.
    """
    pairs = weight.view(-1, head_dim // 2, 2, weight.shape[1])
    return pairs.transpose(1, 2).reshape(weight.shape)


def pico_config(values: Mapping[str, Any], *, origin: Path) -> schema.Model:
    """Read the configuration of an original Pico model.

    Raises:
        PicoLMError: a field is missing, or describes no Transformer of ours.
    """
    try:
        return schema.Model(
            vocab_size=values["vocab_size"],
            d_model=values["d_model"],
            n_layers=values["n_layers"],
            n_heads=values["attention_n_heads"],
            n_kv_heads=values.get("attention_n_kv_heads") or values["attention_n_heads"],
            d_ffn=values["activation_hidden_dim"],
            max_length=values["max_seq_len"],
            rope_theta=float(values["position_emb_theta"]),
            norm_eps=float(values["norm_eps"]),
            init=schema.Init(scheme="pico"),
        )
    except KeyError as error:
        raise PicoLMError(f"{origin} lacks the field {error}") from None
    except ValidationError as error:
        raise PicoLMError(f"{origin}: {explain(error)}") from None
