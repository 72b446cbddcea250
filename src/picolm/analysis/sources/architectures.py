"""Architectures whose matrices are known: how they name them, which are fused or transposed, how heads are cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from picolm.analysis.geometry import Geometry
from picolm.analysis.naming import HalfSplit, Slot, Third
from picolm.errors import PicoLMError
from picolm.model import huggingface, pico

_NEOX = {
    "embed_in": "embedding",
    "layers.*.input_layernorm": "layers.*.attention_norm",
    "layers.*.attention.query_key_value": "layers.*.attention.qkv",
    "layers.*.attention.dense": "layers.*.attention.o_proj",
    "layers.*.post_attention_layernorm": "layers.*.mlp_norm",
    "layers.*.mlp.dense_h_to_4h": "layers.*.mlp.up_proj",
    "layers.*.mlp.dense_4h_to_h": "layers.*.mlp.down_proj",
    "final_layer_norm": "output_norm",
    "embed_out": "unembedding",
    # What transformers 5 calls the module that is saved as `embed_out`.
    "lm_head": "unembedding",
}

_GPT2 = {
    "wte": "embedding",
    "wpe": "position_embedding",
    "h.*.ln_1": "layers.*.attention_norm",
    "h.*.attn.c_attn": "layers.*.attention.qkv",
    "h.*.attn.c_proj": "layers.*.attention.o_proj",
    "h.*.ln_2": "layers.*.mlp_norm",
    "h.*.mlp.c_fc": "layers.*.mlp.up_proj",
    "h.*.mlp.c_proj": "layers.*.mlp.down_proj",
    "ln_f": "output_norm",
    "lm_head": "unembedding",
}

_BERT = {
    "embeddings.word_embeddings": "embedding",
    "embeddings.position_embeddings": "position_embedding",
    "embeddings.token_type_embeddings": "segment_embedding",
    "embeddings.LayerNorm": "embedding_norm",
    "encoder.layer.*.attention.self.query": "layers.*.attention.q_proj",
    "encoder.layer.*.attention.self.key": "layers.*.attention.k_proj",
    "encoder.layer.*.attention.self.value": "layers.*.attention.v_proj",
    "encoder.layer.*.attention.output.dense": "layers.*.attention.o_proj",
    "encoder.layer.*.attention.output.LayerNorm": "layers.*.attention_norm",
    "encoder.layer.*.intermediate.dense": "layers.*.mlp.up_proj",
    "encoder.layer.*.output.dense": "layers.*.mlp.down_proj",
    "encoder.layer.*.output.LayerNorm": "layers.*.mlp_norm",
    "cls.predictions.transform.dense": "head.dense",
    "cls.predictions.transform.LayerNorm": "head.norm",
    "cls.predictions.decoder": "unembedding",
    "cls.predictions": "unembedding",
    # RoBERTa's head.
    "lm_head.dense": "head.dense",
    "lm_head.layer_norm": "head.norm",
    "lm_head.decoder": "unembedding",
    "lm_head": "unembedding",
}

# What some files store beside parameters: causal masks and tables of rotary frequencies.
_BUFFERS = (".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", "inv_freq", "position_ids")
# What Lightning, DeepSpeed and the class for the Hub put before the names of an original Pico model.
_WRAPPERS = re.compile(r"^(_forward_module\.)?(module\.)?(pico_decoder\.)?")
# How old TensorFlow conversions of BERT call what norms hold.
_KINDS = {"gamma": "weight", "beta": "bias"}


@dataclass(frozen=True, slots=True)
class Architecture:
    """One family of models."""

    prefix: str
    """What all names but the head's begin with, where a head is there."""
    our_path: Callable[[str], str]
    """(the path of a module, without prefix) -> its canonical path; the same where it has none."""
    rotary: float
    """Share of each head that is rotated, where the configuration says nothing."""
    causal: bool
    tied: bool = False
    """Whether the output matrix is the embedding, where the configuration says nothing."""
    fused_by_head: bool = False
    """Whether a fused matrix is packed head by head."""
    transposed: tuple[str, ...] = ()
    """Last parts of the paths of modules whose matrices are [in, out]."""
    interleaved: bool = False
    """Whether rotary pairs are neighbouring rows."""


def _by_table(table: Mapping[str, str], path: str) -> str:
    parts = path.split(".")
    numbers = [part for part in parts if part.isdecimal()]
    ours = table.get(".".join("*" if part.isdecimal() else part for part in parts))
    return path if ours is None else ours.replace("*", numbers[0]) if numbers else ours


def _pico_path(path: str) -> str:
    return pico.our_name(_WRAPPERS.sub("", path))


_LLAMA_LIKE = Architecture("model.", huggingface.our_name, rotary=1.0, causal=True)
_BERT_LIKE = Architecture("bert.", partial(_by_table, _BERT), rotary=0.0, causal=False, tied=True)
ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
    "eurobert": replace(_LLAMA_LIKE, causal=False),
    "gpt_neox": Architecture("gpt_neox.", partial(_by_table, _NEOX), rotary=0.25, causal=True, fused_by_head=True),
    "gpt2": Architecture(
        "transformer.",
        partial(_by_table, _GPT2),
        rotary=0.0,
        causal=True,
        tied=True,
        transposed=("c_attn", "c_proj", "c_fc"),
    ),
    "bert": _BERT_LIKE,
    "roberta": replace(_BERT_LIKE, prefix="roberta."),
    pico.MODEL_TYPE: Architecture("pico_decoder.", _pico_path, rotary=1.0, causal=True, interleaved=True),
}
"""By the `model_type` of `config.json`."""


def architecture_of(values: Mapping[str, Any], origin: object) -> Architecture:
    """The architecture that a configuration names.

    Raises:
        PicoLMError: it is none whose matrices are known, or they are quantized.
    """
    model_type = str(values.get("model_type"))
    if model_type not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise PicoLMError(f"{origin} describes a '{model_type}' model; the names of these are known: {known}")
    if values.get("quantization_config"):
        raise PicoLMError(f"{origin} describes quantized weights; only plain ones can be analysed")
    return ARCHITECTURES[model_type]


def geometry_from(values: Mapping[str, Any], origin: object) -> Geometry:
    """Read a `config.json`, whichever names its keys have.

    Raises:
        PicoLMError: a number is missing or impossible, or the architecture is unknown.
    """
    architecture = architecture_of(values, origin)

    def number(*keys: str, default: int | None = None) -> int:
        found = next((values[key] for key in keys if values.get(key) is not None), default)
        if not isinstance(found, int) or isinstance(found, bool) or found < 1:
            raise PicoLMError(f"{origin} must say '{keys[0]}' as a number above 0")
        return found

    d_model = number("hidden_size", "n_embd", "d_model")
    n_heads = number("num_attention_heads", "n_head", "attention_n_heads")
    n_kv_heads = number("num_key_value_heads", "attention_n_kv_heads", default=n_heads)
    if n_heads % n_kv_heads or (values.get("head_dim") is None and d_model % n_heads):
        raise PicoLMError(
            f"{origin}: {n_heads} heads fit neither {n_kv_heads} key/value heads nor a width of {d_model}"
        )
    head_dim = number("head_dim", default=d_model // n_heads)
    return Geometry(
        architecture=str(values["model_type"]),
        n_layers=number("num_hidden_layers", "n_layer", "n_layers"),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        vocab_size=number("vocab_size"),
        causal=architecture.causal or bool(values.get("is_decoder")),
        rotary_dim=int(head_dim * _rotary_share(values, architecture)),
    )


def slots_of(
    stored: Iterable[str], architecture: Architecture, geometry: Geometry, *, tied: bool | None
) -> dict[str, Slot]:
    """Where each canonical tensor stands.

    Args:
        stored: names of tensors of a file, or of parameters of a module.
        architecture: how they are named.
        geometry: how heads are cut.
        tied: whether the output matrix is the embedding; None: as this architecture has it.

    Returns:
        By canonical name; a tensor that has none keeps its own.
    """
    slots: dict[str, Slot] = {}
    for name in stored:
        if not name.endswith(_BUFFERS):
            for ours, slot in _slots(name, architecture, geometry):
                # Files may hold the same twice: BERT's output bias, a tied matrix under the output's name.
                slots.setdefault(ours, slot)
    is_tied = architecture.tied if tied is None else tied
    if is_tied and "embedding" in slots:
        slots.setdefault("unembedding", slots["embedding"])
    return slots


def _slots(name: str, architecture: Architecture, geometry: Geometry) -> list[tuple[str, Slot]]:
    path, _, kind = name.rpartition(".")
    theirs, kind = path.removeprefix(architecture.prefix), _KINDS.get(kind, kind)
    ours = architecture.our_path(theirs)
    suffix = "" if kind == "weight" else f".{kind}"
    transposed = kind == "weight" and theirs.endswith(architecture.transposed or ("\0",))
    if ours.endswith(".qkv"):
        blocks, parent = geometry.n_heads if architecture.fused_by_head else 1, ours.removesuffix("qkv")
        return [
            (f"{parent}{letter}_proj{suffix}", Slot(name, Third(blocks, which), transposed))
            for which, letter in enumerate("qkv")
        ]
    turned = architecture.interleaved and ours.endswith(("q_proj", "k_proj"))
    return [(f"{ours}{suffix}", Slot(name, HalfSplit(geometry.head_dim) if turned else None, transposed))]


def _rotary_share(values: Mapping[str, Any], architecture: Architecture) -> float:
    if not architecture.rotary:
        return 0.0
    rope = values.get("rope_parameters")
    places = (rope if isinstance(rope, Mapping) else {}, values)
    named = [place.get(key) for place in places for key in ("partial_rotary_factor", "rotary_pct")]
    return float(next((share for share in named if share is not None), architecture.rotary))
