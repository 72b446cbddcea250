"""Hessian products of models against the exact Hessian, PyHessian and closed forms; and that no trace is left."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picolm.analysis.curvature import hessian
from picolm.analysis.eigenvalues import lanczos, trace
from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.initialization import build_model
from picolm.model.transformer import Transformer
from picolm.objective.cross_entropy import linear_cross_entropy

from .fixtures.make_geometry import network

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "geometry.json").read_text(encoding="utf-8"))["hessian"]


def exact(loss: Callable[[], Tensor], parameters: dict[str, Tensor]) -> Tensor:
    """The Hessian entry by entry, from one derivative at a time."""
    tensors = list(parameters.values())
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss(), tensors, create_graph=True)])
    rows = [torch.autograd.grad(entry, tensors, retain_graph=True, materialize_grads=True) for entry in gradient]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


def classifier() -> tuple[Callable[[], Tensor], dict[str, Tensor]]:
    net, inputs, labels = network()
    return lambda: F.cross_entropy(net(inputs), labels), dict(net.named_parameters())


def language_model(**changes: object) -> tuple[Transformer, Callable[[], Tensor]]:
    config = schema.Model.model_validate(
        {"vocab_size": 11, "d_model": 8, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ffn": 6, "init": {"std": 0.3}}
        | changes
    )
    model = build_model(config, seed=0).double().eval()
    tokens = torch.randint(0, 11, (3, 7), generator=torch.Generator().manual_seed(1))

    def loss() -> Tensor:
        hidden = model(tokens[:, :-1])
        return linear_cross_entropy(hidden, model.output_matrix, tokens[:, 1:]) / tokens[:, 1:].numel()

    return model, loss


def test_products_are_those_of_the_exact_hessian() -> None:
    loss, parameters = classifier()
    operator, matrix = hessian(loss, parameters), exact(loss, parameters)
    assert operator.size == 92
    found = torch.stack([operator.product(unit) for unit in torch.eye(92, dtype=torch.float64)])
    assert torch.allclose(found, matrix, atol=1e-14)
    values = lanczos(operator, iterations=92, seed=0).values
    assert torch.allclose(values[:3], torch.linalg.eigvalsh(matrix).flip(0)[:3], atol=1e-12)


def test_eigenvalues_and_trace_agree_with_pyhessian() -> None:
    operator = hessian(*classifier())
    values = lanczos(operator, iterations=92, seed=0).values
    largest = values[values.abs().argsort(descending=True)[:3]]
    # Its power iteration gives the largest by size.
    assert largest.tolist() == pytest.approx(FIXTURE["eigenvalues"], rel=1e-5)
    found = trace(operator, draws=600, seed=0)
    assert abs(found.value - FIXTURE["trace"]) < 4 * math.hypot(found.se, FIXTURE["trace_se"])


def test_a_quadratic_has_its_own_matrix() -> None:
    matrix = torch.tensor([[3.0, 1.0], [1.0, -2.0]])
    point = torch.zeros(2, requires_grad=True)
    operator = hessian(lambda: point @ matrix @ point / 2 + point.sum(), {"x": point})
    assert operator.product(torch.tensor([1.0, 0.0])).tolist() == [3.0, 1.0]
    expected = [(1 + math.sqrt(29)) / 2, (1 - math.sqrt(29)) / 2]
    assert lanczos(operator, iterations=9, seed=0).values.tolist() == pytest.approx(expected, rel=1e-6)


def test_linear_losses_have_no_curvature() -> None:
    point, other = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    found = lanczos(hessian(lambda: 2 * point.sum(), {"x": point}), iterations=3, seed=0)
    assert found.values.tolist() == [0.0]
    # One that the loss does not depend on has rows of zeros.
    operator = hessian(lambda: point.square().sum(), {"x": point, "y": other})
    assert operator.product(torch.ones(5)).tolist() == [2, 2, 2, 0, 0]


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_is_differentiated_twice_through_attention_and_its_loss(tied: bool) -> None:
    model, loss = language_model(tied=tied)
    parameters = dict(model.named_parameters())
    operator = hessian(loss, parameters)
    start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    direction = torch.randn(operator.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def gradient(shift: float) -> Tensor:
        with torch.no_grad():
            for name, part in zip(start, direction.split([p.numel() for p in parameters.values()]), strict=True):
                parameters[name].copy_(start[name] + shift * part.view_as(start[name]))
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss(), list(parameters.values()))])

    product = operator.product(direction)
    step = 1e-5
    differences = (gradient(step) - gradient(-step)) / (2 * step)
    assert torch.allclose(product, differences, rtol=1e-5, atol=1e-7)


def test_a_part_of_the_parameters_has_its_block_of_the_hessian() -> None:
    loss, parameters = classifier()
    matrix = exact(loss, parameters)
    last = {"4.weight": parameters["4.weight"]}
    operator = hessian(loss, last)
    found = torch.stack([operator.product(unit) for unit in torch.eye(8, dtype=torch.float64)])
    assert torch.allclose(found, matrix[-8:, -8:], atol=1e-14)


def test_products_of_parts_of_a_batch_add_up() -> None:
    net, inputs, labels = network()
    parameters = dict(net.named_parameters())
    whole = hessian(lambda: F.cross_entropy(net(inputs), labels, reduction="sum"), parameters)
    halves = [
        hessian(lambda s=s: F.cross_entropy(net(inputs[s]), labels[s], reduction="sum"), parameters)  # type: ignore[misc]
        for s in (slice(0, 10), slice(10, 24))
    ]
    vector = torch.ones(92, dtype=torch.float64)
    assert torch.allclose(sum(half.product(vector) for half in halves), whole.product(vector), atol=1e-12)


def test_no_trace_is_left() -> None:
    model, loss = language_model(dropout=0.1)
    model.layers[0].train()
    model.layers[0].dropout.eval()
    loss().backward()
    modes = [module.training for module in model.modules()]
    gradients = {name: (parameter.grad, parameter.grad.clone()) for name, parameter in model.named_parameters()}
    state, weights = torch.get_rng_state(), {name: value.clone() for name, value in model.state_dict().items()}

    def drawing() -> Tensor:
        torch.rand(3)  # a loss that draws without depending on it
        return loss()

    operator = hessian(drawing, dict(model.named_parameters()))
    lanczos(operator, iterations=4, seed=0)
    trace(operator, draws=2, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    for name, parameter in model.named_parameters():
        held, copy = gradients[name]
        assert parameter.grad is held and torch.equal(held, copy) and torch.equal(parameter, weights[name])
        assert parameter.requires_grad


def test_it_works_where_gradients_are_off_and_in_float32() -> None:
    loss, parameters = classifier()
    reference = lanczos(hessian(loss, parameters), iterations=20, seed=0).values[0]
    net, inputs, labels = network()
    net = net.float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        operator = hessian(lambda: F.cross_entropy(net(inputs.float()), labels), dict(net.named_parameters()))
        found = lanczos(operator, iterations=20, seed=0).values[0]
    assert float(found) == pytest.approx(float(reference), rel=1e-5)


def test_dropout_is_noticed() -> None:
    model, loss = language_model(dropout=0.3)
    model.train()
    with pytest.raises(PicoLMError, match="differs between two calls"):
        hessian(loss, dict(model.named_parameters()))


def test_errors_say_what_is_needed() -> None:
    point = torch.ones(3, requires_grad=True)
    frozen, half = nn.Parameter(torch.ones(2), requires_grad=False), nn.Parameter(torch.ones(2).bfloat16())
    for loss, parameters, says in [
        (lambda: point.sum(), {}, "needs parameters"),
        (lambda: point.sum(), {"w": frozen}, "frozen.*w"),
        (lambda: half.sum(), {"h": half}, "not in bfloat16"),
        (lambda: point.sum(), {"x": point, "d": nn.Parameter(torch.ones(1).double())}, "float32, float64"),
        (lambda: point, {"x": point}, r"one finite number, not \[1.0, 1.0, 1.0\]"),
        (lambda: (point * math.inf).sum(), {"x": point}, "one finite number"),
        (lambda: point.detach().sum(), {"x": point}, "gradients on"),
        (lambda: point.sum(), {"y": torch.ones(1, requires_grad=True)}, "none of the parameters y"),
    ]:
        with pytest.raises(PicoLMError, match=says):
            hessian(loss, parameters)  # type: ignore[arg-type]
