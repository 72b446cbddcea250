"""The inner loop against closed forms: a quadratic, and a product of two numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from picolm.objective.adaptation import adapt, mean_slopes, with_slopes


@pytest.fixture
def quadratic() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)

    def positive() -> Tensor:
        root = torch.randn(3, 3, generator=draw, dtype=torch.float64)
        return root @ root.mT + torch.eye(3, dtype=torch.float64)

    a, b, w = (torch.randn(3, generator=draw, dtype=torch.float64) for _ in range(3))
    return {"A": positive(), "B": positive(), "a": a, "b": b, "w": w}


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_on_a_quadratic_every_gradient_is_the_closed_form(quadratic: dict[str, Tensor], steps: int) -> None:
    A, B, a, b, w = (quadratic[name] for name in ("A", "B", "a", "b", "w"))
    rate = 0.1

    def support(p: Mapping[str, Tensor]) -> tuple[Tensor, Any]:
        return (p["w"] - a) @ A @ (p["w"] - a) / 2, ()

    power = torch.matrix_power(torch.eye(3, dtype=torch.float64) - rate * A, steps)
    reached = a + power @ (w - a)
    wanted = {False: B @ (reached - b), True: power @ B @ (reached - b)}
    for exact, gradient in wanted.items():
        start = {"w": w.clone().requires_grad_()}
        end, seen = adapt(support, start, rates={"w": rate}, steps=steps, exact=exact)
        torch.testing.assert_close(end["w"], reached, rtol=1e-12, atol=1e-12)
        loss = (end["w"] - b) @ B @ (end["w"] - b) / 2
        (found,) = torch.autograd.grad(loss, start["w"])
        torch.testing.assert_close(found, gradient, rtol=1e-10, atol=1e-10)
        assert len(seen) == steps
        if steps:
            slope = mean_slopes(start, end, rates={"w": rate}, steps=steps)["w"]
            torch.testing.assert_close(slope, (w - reached) / (rate * steps), rtol=1e-10, atol=1e-10)
    if steps == 4:
        # The two are far apart here, so that one cannot pass for the other.
        assert (wanted[True] - wanted[False]).norm() > 0.5 * wanted[True].norm()


def test_the_product_of_a_feature_and_a_head() -> None:
    """Prediction phi theta x, half the squared error; the values were computed by hand and by finite differences."""

    def half(phi: Tensor, theta: Tensor, x: float, y: float) -> Tensor:
        return (phi * theta * x - y).square() / 2

    wanted = {False: (-0.0440882759, 0.5421483200), True: (0.1697892364, 0.4823764677)}
    for exact, (to_theta, to_phi) in wanted.items():
        theta, phi = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.7, -0.3))

        def support(p: Mapping[str, Tensor], theta: Tensor = theta) -> tuple[Tensor, Any]:
            return half(p["phi"], theta, 1.5, 2.0), ()

        end, _ = adapt(support, {"phi": phi}, rates={"phi": 0.1}, steps=1, exact=exact)
        assert float(end["phi"].detach()) == pytest.approx(-0.056925, abs=1e-12)
        found = torch.autograd.grad(half(end["phi"], theta, -0.8, 1.0), (theta, phi))
        assert [float(one) for one in found] == pytest.approx([to_theta, to_phi], abs=1e-9)
        slope = mean_slopes({"phi": phi}, end, rates={"phi": 0.1}, steps=1)["phi"]
        assert float(slope) * 0.1 == pytest.approx(-0.243075, abs=1e-12)


def test_an_inner_loop_leaves_the_live_parameters_alone(quadratic: dict[str, Tensor]) -> None:
    w = quadratic["w"].clone().requires_grad_()

    def support(p: Mapping[str, Tensor]) -> tuple[Tensor, Any]:
        return p["w"].square().sum(), ()

    adapt(support, {"w": w}, rates={"w": 0.1}, steps=3, exact=True)
    assert w.grad is None and torch.equal(w, quadratic["w"])


def test_a_scalar_carries_the_gradients_that_it_is_given() -> None:
    one, two = (torch.tensor([1.0, -2.0], requires_grad=True) for _ in range(2))
    slopes = {"one": torch.tensor([3.0, 4.0]), "two": torch.tensor([-1.0, 0.5])}
    value = with_slopes(torch.tensor(7.0), {"one": one, "two": two}, slopes)
    found = torch.autograd.grad(2 * value, (one, two))
    assert float(value.detach()) == 7.0
    for gradient, slope in zip(found, slopes.values(), strict=True):
        torch.testing.assert_close(gradient, 2 * slope)
