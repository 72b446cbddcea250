"""The canonical matrices, applied by hand with nothing but the geometry, give what transformers' own modules give."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from picolm.analysis.opening import open_source
from picolm.analysis.source import Snapshot

Saved = Callable[[str], tuple[Path, nn.Module]]
NAMES = [
    "gpt_neox",
    "gpt_neox_sequential",
    "gpt2",
    "bert",
    "bert_decoder",
    "roberta",
    "llama",
    "llama_biased",
    "mistral",
    "qwen2",
    "qwen3",
    "qwen3_square",
    "eurobert",
]
# Where transformers keeps the attention of a layer, and in it the module that mixes.
ATTENTION = {
    "gpt_neox": "gpt_neox.layers.{}.attention",
    "gpt2": "transformer.h.{}.attn",
    "llama": "model.layers.{}.self_attn",
}
ATTENTION |= {name: f"{name}.encoder.layer.{{}}.attention.self" for name in ("bert", "roberta")}
LAYER = 1


def open_saved(saved: Saved, name: str) -> tuple[Snapshot, nn.Module]:
    path, model = saved(name)
    source = open_source(path)
    return source.snapshot(source.steps[-1]), model


def hooked(model: nn.Module, path: str, ids: Tensor) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """What a module is given, and what it gives."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []
    module = model.get_submodule(path)
    hook = module.register_forward_hook(
        lambda _, args, kwargs, output: seen.append((args, kwargs, output)), with_kwargs=True
    )
    with torch.no_grad():
        model(ids)
    hook.remove()
    return seen[0]


def rotated(x: Tensor, width: int) -> Tensor:
    """The first `width` entries of x [R, heads, T, C] turned in pairs (i, i + width/2), as complex numbers."""
    half = width // 2
    angles = torch.arange(x.shape[2])[:, None] * 10000.0 ** (-torch.arange(half) / half)
    turned = torch.complex(x[..., :half], x[..., half:width]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag, x[..., width:]], dim=-1)


def attention_by_hand(snapshot: Snapshot, x: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pattern [R, H, T, T], mixed values [R, H, T, C] and output [R, T, D], head by head."""
    at, g = f"layers.{layer}.attention", snapshot.geometry
    weights = snapshot.read([name for name in snapshot.shapes if name.startswith(at)])
    heads = {}
    for letter, count in (("q", g.n_heads), ("k", g.n_kv_heads), ("v", g.n_kv_heads)):
        flat = x @ weights[f"{at}.{letter}_proj"].T + weights.get(f"{at}.{letter}_proj.bias", torch.zeros(()))
        heads[letter] = torch.stack(
            [flat[..., head * g.head_dim : (head + 1) * g.head_dim] for head in range(count)], dim=1
        )
        if (norm := weights.get(f"{at}.{letter}_norm")) is not None:
            heads[letter] = heads[letter] / (heads[letter].square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm
    patterns, mixed, output = [], [], weights.get(f"{at}.o_proj.bias", torch.zeros(g.d_model)).clone()
    for head in range(g.n_heads):
        query, key = (rotated(heads[letter], g.rotary_dim) if g.rotary_dim else heads[letter] for letter in "qk")
        scores = query[:, head] @ key[:, head // g.group].mT / math.sqrt(g.head_dim)
        if g.causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        patterns.append(scores.softmax(-1))
        mixed.append(patterns[-1] @ heads["v"][:, head // g.group])
        output = output + mixed[-1] @ weights[f"{at}.o_proj"][:, head * g.head_dim : (head + 1) * g.head_dim].T
    return torch.stack(patterns, dim=1), torch.stack(mixed, dim=1), output


@pytest.mark.parametrize("name", NAMES)
def test_attention_by_hand_equals_the_module(name: str, saved: Saved, tokens: Tensor) -> None:
    snapshot, model = open_saved(saved, name)
    kind = snapshot.geometry.architecture
    args, kwargs, (given, pattern) = hooked(
        model, ATTENTION.get(kind, ATTENTION["llama"]).format(LAYER), tokens[:, :-1]
    )
    x = args[0] if args else kwargs["hidden_states"]
    by_hand = attention_by_hand(snapshot, x, LAYER)
    torch.testing.assert_close(by_hand[0], pattern, rtol=1e-5, atol=1e-5)
    if kind in ("bert", "roberta"):  # the module that mixes is not the one that has the output matrix
        torch.testing.assert_close(by_hand[1].transpose(1, 2).flatten(2), given, rtol=1e-5, atol=1e-5)
        given = hooked(model, f"{kind}.encoder.layer.{LAYER}.attention.output.dense", tokens[:, :-1])[2]
    torch.testing.assert_close(by_hand[2], given, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_feed_forward_by_hand_equals_the_module(name: str, saved: Saved, tokens: Tensor) -> None:
    snapshot, model = open_saved(saved, name)
    kind = snapshot.geometry.architecture
    first = {
        "gpt_neox": "gpt_neox.layers.1.mlp",
        "gpt2": "transformer.h.1.mlp",
        "bert": "bert.encoder.layer.1.intermediate",
    }
    first |= {"roberta": "roberta.encoder.layer.1.intermediate"}
    last = {"bert": "bert.encoder.layer.1.output.dense", "roberta": "roberta.encoder.layer.1.output.dense"}
    args, _, given = hooked(model, first.get(kind, "model.layers.1.mlp"), tokens[:, :-1])
    if kind in last:
        given = hooked(model, last[kind], tokens[:, :-1])[2]
    at = "layers.1.mlp"
    w = snapshot.read([matrix for matrix in snapshot.shapes if matrix.startswith(at)])

    def apply(matrix: str, x: Tensor) -> Tensor:
        return x @ w[f"{at}.{matrix}"].T + w.get(f"{at}.{matrix}.bias", torch.zeros(()))

    if f"{at}.gate_proj" in w:
        inner = torch.nn.functional.silu(apply("gate_proj", args[0])) * apply("up_proj", args[0])
    else:
        inner = torch.nn.functional.gelu(apply("up_proj", args[0]), approximate="tanh" if kind == "gpt2" else "none")
    torch.testing.assert_close(apply("down_proj", inner), given, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_both_ends_and_all_names(name: str, saved: Saved, tokens: Tensor) -> None:
    snapshot, model = open_saved(saved, name)
    ends = snapshot.read(["embedding", "unembedding"])
    assert torch.equal(ends["embedding"], model.get_input_embeddings().weight)  # type: ignore[operator]
    assert torch.equal(ends["unembedding"], model.get_output_embeddings().weight)  # type: ignore[operator]
    # Every parameter has a canonical name: none keeps the one that it is stored under.
    begins = ("embedding", "unembedding", "position_embedding", "segment_embedding", "layers.", "output_norm", "head.")
    assert all(matrix.startswith(begins) for matrix in snapshot.shapes)
    stored = sum(parameter.numel() for parameter in model.parameters())
    twice = 0 if ends["embedding"].data_ptr() != ends["unembedding"].data_ptr() else ends["embedding"].numel()
    assert sum(math.prod(shape) for shape in snapshot.shapes.values()) == stored + twice
    layers = {matrix.split(".", 2)[2] for matrix in snapshot.shapes if matrix.startswith("layers.2.")}
    needed = {
        "attention.q_proj",
        "attention.k_proj",
        "attention.v_proj",
        "attention.o_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    }
    assert layers >= needed | {"attention_norm", "mlp_norm"}


def test_the_flat_third_of_a_fused_matrix_is_not_the_values(saved: Saved, tokens: Tensor) -> None:
    """What the released analysis of Pythia takes for values are keys and values of some heads, queries of others."""
    snapshot, model = open_saved(saved, "gpt_neox")
    fused = model.get_parameter("gpt_neox.layers.1.attention.query_key_value.weight")
    right = snapshot.read(["layers.1.attention.v_proj"])["layers.1.attention.v_proj"]
    assert not torch.allclose(fused[64:], right)
    # Head 2 is [q | k | v] in rows 48 to 71 of 4 heads x 3 x 8.
    assert torch.equal(right[16:24], fused[64:72])


def test_geometry_is_read_whatever_its_keys_are_called(saved: Saved) -> None:
    neox, gpt2, qwen = (open_saved(saved, name)[0].geometry for name in ("gpt_neox", "gpt2", "qwen3"))
    assert (neox.rotary_dim, neox.causal, neox.n_kv_heads, neox.head_dim) == (2, True, 4, 8)
    assert open_saved(saved, "gpt_neox_sequential")[0].geometry.rotary_dim == 4
    assert (gpt2.rotary_dim, gpt2.n_layers, gpt2.d_model) == (0, 3, 32)
    assert (qwen.head_dim, qwen.rotary_dim, qwen.n_kv_heads, qwen.group) == (16, 16, 2, 2)
    assert not open_saved(saved, "bert")[0].geometry.causal and not open_saved(saved, "eurobert")[0].geometry.causal
