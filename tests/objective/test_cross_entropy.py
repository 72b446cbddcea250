import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from picolm.config import schema
from picolm.model.initialization import build_model
from picolm.objective import cross_entropy
from picolm.objective.cross_entropy import linear_cross_entropy, plain_linear_cross_entropy
from picolm.objective.twin import plain_twin
from picolm.seams import IGNORE


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows a chunk, so that few rows are several chunks and the last one is short."""
    monkeypatch.setattr(cross_entropy, "loss_rows", lambda *_: 7)


def inputs(n: int, d: int, v: int, *, ignored: float = 0.3, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n * 1000 + v)
    hidden = torch.randn(n, d, generator=generator, dtype=torch.double) * scale
    matrix = torch.randn(v, d, generator=generator, dtype=torch.double)
    targets = torch.randint(0, v, (n,), generator=generator)
    targets[torch.rand(n, generator=generator) < ignored] = IGNORE
    return hidden, matrix, targets


def value_and_gradients(function: object, hidden: Tensor, matrix: Tensor, targets: Tensor) -> list[Tensor]:
    leaves = [hidden.clone().requires_grad_(), matrix.clone().requires_grad_()]
    value = function(*leaves, targets)  # type: ignore[operator]
    (value / 3).backward()
    return [value.detach(), *(leaf.grad for leaf in leaves)]


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 40), st.integers(1, 9), st.integers(1, 60), st.floats(0, 1), st.sampled_from([0.1, 1.0, 30.0]))
def test_chunked_equals_plain_in_float64(n: int, d: int, v: int, ignored: float, scale: float) -> None:
    arguments = inputs(n, d, v, ignored=ignored, scale=scale)
    chunked = value_and_gradients(linear_cross_entropy, *arguments)
    plain = value_and_gradients(plain_linear_cross_entropy, *arguments)
    for ours, expected in zip(chunked, plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_a_batch_of_rows_keeps_its_shape() -> None:
    hidden, matrix, targets = inputs(24, 5, 11)
    whole = linear_cross_entropy(hidden, matrix, targets)
    assert torch.equal(linear_cross_entropy(hidden.view(4, 6, 5), matrix, targets.view(4, 6)), whole)


def test_logits_beyond_the_range_of_exp_do_not_overflow() -> None:
    hidden = torch.full((16, 1), 1e4)
    matrix = torch.tensor([[1.0], [-1.0], [0.5]])
    targets = torch.tensor([0, 1] * 8)
    value, *gradients = value_and_gradients(linear_cross_entropy, hidden, matrix, targets)
    assert value.item() == pytest.approx(8 * 2e4)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    n, v = 7 * 400, 8
    hidden, matrix = torch.full((n, 4), 0.5), torch.zeros(v, 4)
    targets = torch.zeros(n, dtype=torch.long)
    leaf = matrix.clone().requires_grad_()
    with torch.autocast("cpu", dtype):
        value = linear_cross_entropy(hidden, leaf, targets)
    value.backward()
    # Added up in half precision, both would stop growing long before.
    assert value.dtype == leaf.grad.dtype == torch.float32
    assert value.item() == pytest.approx(n * math.log(v), rel=1e-5)
    torch.testing.assert_close(leaf.grad[1:], torch.full((v - 1, 4), n * 0.5 / v), rtol=1e-3, atol=0)


def test_half_precision_is_as_near_to_float64_as_the_plain_form() -> None:
    hidden, matrix, targets = inputs(300, 32, 500, scale=0.3)
    exact = value_and_gradients(plain_linear_cross_entropy, hidden, matrix, targets)
    errors = []
    for function in (linear_cross_entropy, plain_linear_cross_entropy):
        with torch.autocast("cpu", torch.bfloat16):
            found = value_and_gradients(function, hidden.float(), matrix.float(), targets)
        errors.append([((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, exact, strict=True)])
    for ours, plain in zip(*errors, strict=True):
        assert ours < 1.5 * plain + 1e-6


def test_a_confident_prediction_keeps_its_small_gradient_in_half_precision() -> None:
    hidden = torch.ones(8, 1)
    matrix = torch.tensor([[7.0], [0.0]])
    leaf = matrix.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        linear_cross_entropy(hidden, leaf, torch.zeros(8, dtype=torch.long)).backward()
    slope = -8 / (1 + math.exp(7))
    assert leaf.grad[0].item() == pytest.approx(slope, rel=0.01)


def test_no_more_than_a_chunk_of_logits_is_ever_held() -> None:
    hidden, matrix, targets = inputs(70, 4, 500)
    shapes: list[tuple[int, ...]] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            shapes.extend(
                tuple(t.shape) for t in (result if isinstance(result, tuple) else (result,)) if hasattr(t, "shape")
            )
            return result

    with Watch():
        value_and_gradients(linear_cross_entropy, hidden, matrix, targets)
    assert (7, 500) in shapes
    assert not [shape for shape in shapes if len(shape) == 2 and shape[1] == 500 and shape[0] > 7]


def test_without_gradients_only_the_loss_is_computed() -> None:
    hidden, matrix, targets = inputs(30, 4, 20)
    with torch.no_grad():
        value = linear_cross_entropy(hidden, matrix.requires_grad_(), targets)
    torch.testing.assert_close(value, plain_linear_cross_entropy(hidden, matrix, targets).detach(), rtol=1e-12, atol=0)
    assert not value.requires_grad


def test_backward_can_run_again_on_a_kept_graph() -> None:
    hidden, matrix, targets = inputs(30, 4, 20)
    hidden.requires_grad_()
    value = linear_cross_entropy(hidden, matrix, targets)
    (first,) = torch.autograd.grad(value, hidden, retain_graph=True)
    (second,) = torch.autograd.grad(2 * value, hidden)
    torch.testing.assert_close(second, 2 * first, rtol=0, atol=0)


def tiny_loss(model: torch.nn.Module, tokens: Tensor) -> Tensor:
    return linear_cross_entropy(model(tokens[:, :-1]), model.output_matrix, tokens[:, 1:])


def test_the_plain_twin_has_the_same_loss_and_a_second_derivative() -> None:
    config = schema.Model(vocab_size=13, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, d_ffn=12)
    model = build_model(config, 0).double()
    tokens = torch.randint(0, 13, (2, 9), generator=torch.Generator().manual_seed(0))
    parameters = list(model.parameters())
    direction = [
        torch.randn(p.shape, generator=torch.Generator().manual_seed(i), dtype=p.dtype)
        for i, p in enumerate(parameters)
    ]

    def gradient() -> list[Tensor]:
        return list(torch.autograd.grad(tiny_loss(model, tokens), parameters, create_graph=True))

    expected = tiny_loss(model, tokens)
    with plain_twin():
        torch.testing.assert_close(tiny_loss(model, tokens), expected, rtol=1e-12, atol=0)
        inner = sum((g * v).sum() for g, v in zip(gradient(), direction, strict=True))
        product = torch.autograd.grad(inner, parameters)
        step = 1e-5
        shifted = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, v in zip(parameters, direction, strict=True):
                    p += sign * step * v
            shifted.append([g.detach() for g in gradient()])
            with torch.no_grad():
                for p, v in zip(parameters, direction, strict=True):
                    p -= sign * step * v
    for exact, up, down in zip(product, *shifted, strict=True):
        torch.testing.assert_close(exact, (up - down) / (2 * step), rtol=1e-4, atol=1e-4)
    with pytest.raises(RuntimeError, match=r"differentiate twice|not implemented"):
        torch.autograd.grad(sum(g.sum() for g in gradient()), parameters)
