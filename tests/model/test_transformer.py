import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from picolm.config import schema
from picolm.model.initialization import build_model
from picolm.model.transformer import RMSNorm, Transformer, rotate, rotation

SMALL = schema.Model(vocab_size=61, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ffn=48, max_length=64)


def ids(batch: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 61, (batch, length), generator=torch.Generator().manual_seed(seed))


def variant(**changes: object) -> Transformer:
    config = schema.Model.model_validate({**SMALL.model_dump(), **changes})
    return build_model(config, seed=1).double()


def plain_forward(model: Transformer, tokens: Tensor) -> Tensor:
    """The same model written out naively: explicit scores and mask, keys and values looked up for each query head."""
    config = model.config
    x = model.embedding.weight[tokens]
    length, group = tokens.shape[1], config.n_heads // config.n_kv_heads
    allowed = (
        torch.ones(length, length).tril().bool() if config.attention == "causal" else torch.ones(length, length).bool()
    )

    def norm(values: Tensor, weight: Tensor) -> Tensor:
        return values / (values.pow(2).mean(-1, keepdim=True) + config.norm_eps).sqrt() * weight

    def turn(head: Tensor) -> Tensor:
        out = head.clone()
        half = config.head_dim // 2
        for position in range(length):
            for pair in range(half):
                angle = position * config.rope_theta ** (-2 * pair / config.head_dim)
                a, b = head[:, position, pair], head[:, position, pair + half]
                out[:, position, pair] = a * math.cos(angle) - b * math.sin(angle)
                out[:, position, pair + half] = b * math.cos(angle) + a * math.sin(angle)
        return out

    for block in model.layers:
        attention, normed = block.attention, norm(x, block.attention_norm.weight)
        outputs = []
        for head in range(config.n_heads):
            rows = slice(head * config.head_dim, (head + 1) * config.head_dim)
            shared = slice(head // group * config.head_dim, (head // group + 1) * config.head_dim)
            query, key = normed @ attention.q_proj.weight[rows].T, normed @ attention.k_proj.weight[shared].T
            if config.qk_norm:
                query, key = norm(query, attention.q_norm.weight), norm(key, attention.k_norm.weight)
            scores = turn(query) @ turn(key).transpose(1, 2) / math.sqrt(config.head_dim)
            weights = scores.masked_fill(~allowed, -math.inf).softmax(-1)
            outputs.append(weights @ (normed @ attention.v_proj.weight[shared].T))
        x = x + torch.cat(outputs, -1) @ attention.o_proj.weight.T
        normed, mlp = norm(x, block.mlp_norm.weight), block.mlp
        x = x + (F.silu(normed @ mlp.gate_proj.weight.T) * (normed @ mlp.up_proj.weight.T)) @ mlp.down_proj.weight.T
    return norm(x, model.output_norm.weight)


@pytest.mark.parametrize(
    "changes",
    [{}, {"tied": True}, {"qk_norm": True}, {"attention": "bidirectional"}, {"n_kv_heads": 4}, {"rope_theta": 50.0}],
)
def test_forward_equals_the_model_written_out(changes: dict[str, object]) -> None:
    model, tokens = variant(**changes), ids(2, 11)
    expected = plain_forward(model, tokens)
    torch.testing.assert_close(model(tokens), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.logits(expected), expected @ model.output_matrix.T, rtol=0, atol=0)


def test_a_causal_model_sees_no_later_token_and_a_bidirectional_one_does() -> None:
    tokens = ids(1, 12)
    changed = tokens.clone()
    changed[0, 7] = (changed[0, 7] + 1) % 61
    causal = variant()
    before, after = causal(tokens), causal(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7], rtol=0, atol=0)
    assert (before[:, 7:] != after[:, 7:]).any(-1).all()
    both = variant(attention="bidirectional")
    assert (both(tokens) != both(changed)).any(-1).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=9, max_size=9).filter(any), st.sampled_from(["causal", "bidirectional"]))
def test_padding_anywhere_is_as_if_it_were_not_there(real: list[bool], attention: str) -> None:
    model = variant(attention=attention)
    tokens, mask = ids(2, 9), torch.tensor([real, [True] * 9])
    noise = torch.where(mask, tokens, 60)
    hidden = model(noise, attention_mask=mask)
    expected = model(tokens, attention_mask=mask)
    torch.testing.assert_close(hidden[mask], expected[mask], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(hidden[1], model(tokens)[1], rtol=1e-12, atol=1e-12)
    if real == sorted(real, reverse=True):
        length = sum(real)
        torch.testing.assert_close(hidden[0, :length], model(tokens[:1, :length])[0], rtol=1e-12, atol=1e-12)


def test_attention_depends_on_relative_positions_alone() -> None:
    query, key = torch.randn(2, 8, dtype=torch.double, generator=torch.Generator().manual_seed(3))
    products = []
    for shift in (0, 1, 17):
        cos, sin = rotation(torch.tensor([5 + shift, 2 + shift]), 8, 10000.0, torch.double)
        products.append(rotate(query, (cos[0], sin[0])) @ rotate(key, (cos[1], sin[1])))
    torch.testing.assert_close(torch.stack(products), products[0].expand(3), rtol=1e-12, atol=1e-12)


def test_two_models_of_different_theta_in_one_process_do_not_share_a_table() -> None:
    # The original caches one table for all models (specs/pico.md W4).
    tokens = ids(1, 9)
    first, second = variant(rope_theta=10000.0), variant(rope_theta=77.0)
    first(tokens)
    torch.testing.assert_close(second(tokens), plain_forward(second, tokens), rtol=1e-12, atol=1e-12)
    other_width = variant(n_heads=2, n_kv_heads=1)
    torch.testing.assert_close(other_width(tokens), plain_forward(other_width, tokens), rtol=1e-12, atol=1e-12)


def test_a_model_cast_to_bfloat16_still_rotates() -> None:
    # The original's complex table loses its imaginary part here (specs/pico.md W5).
    model = build_model(SMALL, seed=1).bfloat16()
    hidden = model(torch.tensor([[5, 5, 9], [5, 9, 5]]))
    assert not torch.equal(hidden[0, 2], hidden[1, 1])
    cos, sin = rotation(torch.arange(9), 8, 10000.0, torch.bfloat16)
    assert cos.dtype == torch.float32 and sin.abs().max() > 0.5


def test_one_token_is_a_sequence() -> None:
    # The original crashes on length 1 (specs/pico.md W3).
    assert variant()(ids(1, 1)).shape == (1, 1, 32)


def test_rms_norm_by_its_formula() -> None:
    norm = RMSNorm(4, eps=0.5).double()
    norm.weight.data = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.double)
    x = torch.tensor([1.0, -1.0, 2.0, 0.0], dtype=torch.double)
    torch.testing.assert_close(norm(x), x / math.sqrt(6 / 4 + 0.5) * norm.weight, rtol=1e-15, atol=0)


def test_dropout_acts_in_training_only_and_has_mean_one() -> None:
    model = variant(dropout=0.5)
    tokens = ids(1, 6)
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    torch.testing.assert_close(model(tokens), plain_forward(model, tokens), rtol=1e-12, atol=1e-12)


def test_no_tensor_of_size_t_by_t_is_saved_for_backward() -> None:
    model = build_model(SMALL, seed=0)
    length, saved = 64, []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t.shape), t)[1], lambda t: t):
        model(ids(1, length)).sum()
    assert saved
    assert not [shape for shape in saved if list(shape).count(length) > 1]


@pytest.mark.parametrize("name", ["embedding.weight", "layers.1.attention.q_norm.weight", "output_norm.weight"])
def test_roles(name: str) -> None:
    model = variant(qk_norm=True)
    assert name in dict(model.named_parameters())
    assert model.role(name) == ("embedding" if name == "embedding.weight" else "norm")
    assert model.role("unembedding.weight") == model.role("layers.0.mlp.up_proj.weight") == "matrix"
