"""Adapters beside linear layers: the same function, gradients, merges and first values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.adapters import (
    AdaptedLinear,
    adapted_layers,
    first_a,
    is_adapter,
    linear_layers,
    merge_adapters,
    replace_layers,
)
from picolm.model.initialization import build_model

SHAPES = [(12, 20, True), (20, 12, False), (8, 8, True)]
CONFIG = schema.Model(
    vocab_size=20, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, d_ffn=12, max_length=16, tied=False
)


def adapted(outputs: int = 12, inputs: int = 20, *, rank: int = 3, scale: float | None = 2.0, bias: bool = True,
            dtype: torch.dtype = torch.float64) -> AdaptedLinear:  # fmt: skip
    torch.manual_seed(0)
    return AdaptedLinear(nn.Linear(inputs, outputs, bias=bias, dtype=dtype), rank, scale=scale)


def filled(layer: AdaptedLinear) -> AdaptedLinear:
    layer.begin(first_a("kaiming", layer, torch.Generator().manual_seed(1)))
    with torch.no_grad():
        layer.b.normal_()
    return layer


@pytest.mark.parametrize(("outputs", "inputs", "bias"), SHAPES)
@pytest.mark.parametrize("scale", [0.25, 2.0, None])
def test_wrapping_and_beginning_leave_the_function_bit_for_bit(
    outputs: int, inputs: int, bias: bool, scale: float | None
) -> None:
    torch.manual_seed(0)
    base = nn.Linear(inputs, outputs, bias=bias)
    x = torch.randn(5, inputs)
    plain = base(x)
    layer = AdaptedLinear(base, 3, scale=scale)
    layer.begin(first_a("kaiming", layer, torch.Generator().manual_seed(1)))
    assert torch.equal(layer.eval()(x), plain)
    assert layer.weight is base.weight and layer.bias is base.bias


@pytest.mark.parametrize("scale", [0.25, 2.0, None])
def test_gradients_are_those_of_lora(scale: float | None) -> None:
    """dL/dB = s G x A^T, dL/dA = s B^T G x: of B at once, of A once B is not zero, of W never."""
    layer = adapted(scale=scale)
    layer.begin(first_a("kaiming", layer, torch.Generator().manual_seed(1)))
    x, upstream = torch.randn(7, 20, dtype=torch.float64), torch.randn(7, 12, dtype=torch.float64)
    s = math.tanh(1.0) if scale is None else scale
    for _ in range(2):
        layer.zero_grad()
        layer(x).backward(upstream)
        whole = upstream.mT @ x
        torch.testing.assert_close(layer.b.grad, s * whole @ layer.a.mT, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(layer.a.grad, s * layer.b.mT @ whole, rtol=1e-12, atol=1e-12)
        assert layer.weight.grad is None and layer.bias.grad is not None
        assert layer.a.grad.any() == layer.b.any()
        with torch.no_grad():
            layer.b.normal_()


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("scale", [0.25, 2.0, None])
def test_a_merge_keeps_the_function(dtype: torch.dtype, within: float, scale: float | None) -> None:
    layer = filled(adapted(scale=scale, dtype=dtype)).eval()
    x = torch.randn(9, 20, dtype=dtype)
    before, old = layer(x), layer.a.clone()
    layer.merge(layer.delta())
    layer.begin(first_a("kaiming", layer, torch.Generator().manual_seed(2)))
    torch.testing.assert_close(layer(x), before, rtol=within, atol=within)
    assert not layer.delta().any() and not layer.b.any() and not torch.equal(layer.a, old)
    assert float(layer.a.detach().abs().max()) <= 1 / math.sqrt(20)
    if scale is None:
        assert layer.adapter_scale.item() == 1.0


def test_a_merge_under_bf16_costs_one_rounding() -> None:
    """The weight stays float32, and is rounded where a forward uses it: nothing is lost for good."""
    layer = filled(adapted(64, 96, dtype=torch.float32)).eval()
    exact = layer.weight.detach().double() + 2.0 * layer.b.detach().double() @ layer.a.detach().double()
    layer.merge(layer.delta())
    layer.begin(torch.zeros_like(layer.a))
    torch.testing.assert_close(layer.weight.double(), exact, rtol=1e-6, atol=1e-6)
    x = torch.randn(9, 96)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        got = layer(x)
        rounded = nn.functional.linear(x, exact.float().bfloat16(), layer.bias)
    torch.testing.assert_close(got, rounded, rtol=0.01, atol=0.01)


def test_dropout_is_on_what_goes_into_the_adapter_alone() -> None:
    layer = filled(adapted())
    layer.dropout = 0.5
    x = torch.randn(1000, 20, dtype=torch.float64)
    plain = nn.functional.linear(x, layer.weight, layer.bias)
    torch.manual_seed(3)
    kept = layer.train()(x) - plain
    torch.manual_seed(3)
    mask = nn.functional.dropout(torch.ones_like(x), 0.5)
    torch.testing.assert_close(kept, 2.0 * (x * mask) @ layer.a.mT @ layer.b.mT)
    torch.testing.assert_close(layer.eval()(x) - plain, x @ layer.delta().mT)


@pytest.mark.parametrize("kind", ["kaiming", "orthogonal", "weight", "complement"])
def test_first_values_are_of_one_size_and_keyed(kind: str) -> None:
    layer = adapted(40, 60, rank=10)
    first = first_a(kind, layer, torch.Generator().manual_seed(5))
    assert torch.equal(first, first_a(kind, layer, torch.Generator().manual_seed(5)))
    assert float(first.norm(dim=1).mean()) == pytest.approx(1 / math.sqrt(3), rel=0.1)
    if kind != "kaiming":
        torch.testing.assert_close(first @ first.mT, torch.eye(10).double() / 3, rtol=1e-9, atol=1e-9)
    if kind == "weight":
        top = torch.linalg.svdvals(layer.weight)[:10]
        torch.testing.assert_close(torch.linalg.svdvals(layer.weight @ first.mT), top / math.sqrt(3))


def test_the_complement_is_orthogonal_to_all_past_change_while_there_is_room() -> None:
    layer = adapted(40, 30, rank=8)
    past = torch.zeros(40, 30, dtype=torch.float64)
    for cycle in range(6):
        first = first_a("complement", layer, torch.Generator().manual_seed(cycle), past)
        if cycle < 3:
            assert float((past @ first.mT).abs().max()) < 1e-9
        past = past + torch.randn(40, 8, dtype=torch.float64) @ first
        assert int(torch.linalg.matrix_rank(past)) == min(8 * (cycle + 1), 30)


def test_what_has_no_room_is_refused() -> None:
    layer = adapted(8, 4, rank=6)
    with pytest.raises(PicoLMError, match="6 orthogonal directions in 4 dimensions"):
        first_a("orthogonal", layer, torch.Generator())
    with pytest.raises(PicoLMError, match="6 singular vectors"):
        first_a("weight", adapted(5, 8, rank=6), torch.Generator())


def test_a_model_goes_there_and_back_under_the_same_names() -> None:
    model = build_model(CONFIG, 0).double()
    names, text = set(model.state_dict()), torch.arange(12)[None]
    layers = linear_layers(model)
    # The output matrix is never called: losses multiply by it.
    assert "unembedding" not in layers and len(layers) == 14
    replace_layers(model, {path: AdaptedLinear(layer, 2, scale=3.0) for path, layer in layers.items()})
    for layer in adapted_layers(model).values():
        filled(layer)
    assert {name for name in model.state_dict() if not is_adapter(name)} == names
    before = model(text)
    merge_adapters(model)
    assert set(model.state_dict()) == names and not adapted_layers(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(model(text), before, rtol=1e-12, atol=1e-12)
