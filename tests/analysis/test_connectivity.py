"""Linear mode connectivity: losses whose line is known, and models that are the same function."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call

from picolm.analysis.connectivity import loss_along
from picolm.errors import PicoLMError

from .fixtures.make_geometry import network


def at(*values: float) -> dict[str, Tensor]:
    return {"x": torch.tensor(values, dtype=torch.float64)}


def test_a_bowl_has_no_barrier_and_a_ridge_has_its_height() -> None:
    bowl = loss_along(lambda p: p["x"].square().sum(), at(-1.0, 0.0), at(1.0, 0.0))
    assert bowl.barrier == 0.0 and float(bowl.heights.amin()) == pytest.approx(-1.0)
    # (x^2 - 1)^2 has minima at -1 and 1 and a height of 1 between them.
    ridge = loss_along(lambda p: (p["x"].square() - 1).square().sum(), at(-1.0), at(1.0))
    assert ridge.barrier == pytest.approx(1.0)
    assert ridge.places.tolist() == pytest.approx([i / 24 for i in range(25)])


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-2, 2))
def test_the_barrier_is_measured_from_the_line_between_the_ends(a: float, b: float, tilt: float) -> None:
    def wave(p: dict[str, Tensor]) -> Tensor:
        return torch.sin(3 * p["x"]).sum()

    plain = loss_along(wave, at(a), at(b), points=11)
    # A slope that is added to the loss leaves the barrier as it is.
    tilted = loss_along(lambda p: wave(p) + tilt * p["x"].sum(), at(a), at(b), points=11)
    assert tilted.barrier == pytest.approx(plain.barrier, abs=1e-12)
    assert plain.barrier >= 0
    back = loss_along(wave, at(b), at(a), points=11)
    assert torch.allclose(back.losses.flip(0), plain.losses, atol=1e-12)


def test_the_ends_are_the_models_themselves() -> None:
    first = {"x": torch.rand(50, generator=torch.Generator().manual_seed(0))}
    second = {"x": torch.rand(50, generator=torch.Generator().manual_seed(1))}
    seen: list[Tensor] = []
    loss_along(lambda p: seen.append(p["x"]) or 0.0, first, second, points=5)  # type: ignore[func-returns-value]
    assert len(seen) == 5
    assert torch.equal(seen[0], first["x"]) and torch.equal(seen[-1], second["x"])
    assert torch.allclose(seen[1], 0.75 * first["x"] + 0.25 * second["x"])


def test_a_network_and_its_permuted_twin_are_one_function_with_a_barrier_between() -> None:
    net, inputs, _ = network()
    labels = net(inputs).argmax(-1)  # as if trained to them
    first = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    second = {**first, "0.weight": first["0.weight"][order], "0.bias": first["0.bias"][order]}
    second["2.weight"] = first["2.weight"][:, order]

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(functional_call(net, parameters, (inputs,)), labels)

    before = {name: parameter.clone() for name, parameter in net.named_parameters()}
    line = loss_along(loss, first, second)
    assert float(line.losses[0]) == pytest.approx(float(line.losses[-1]), rel=1e-12)
    # So a barrier says nothing of two functions before their units are matched.
    assert line.barrier > 0.1
    same = loss_along(loss, first, first, points=3)
    assert same.barrier == 0.0
    assert all(torch.equal(parameter, before[name]) for name, parameter in net.named_parameters())


def test_counters_are_carried_along() -> None:
    first = {"x": torch.zeros(1), "steps": torch.tensor(3)}
    line = loss_along(
        lambda p: p["x"].sum() + p["steps"], first, {"x": torch.ones(1), "steps": torch.tensor(3)}, points=3
    )
    assert line.losses.tolist() == [3.0, 3.5, 4.0]
    with pytest.raises(PicoLMError, match="steps holds no floating-point"):
        loss_along(lambda p: 0.0, first, {"x": torch.ones(1), "steps": torch.tensor(4)})


def test_a_loss_that_is_not_finite_is_seen() -> None:
    line = loss_along(lambda p: (1 / p["x"]).sum(), at(-1.0), at(1.0), points=3)
    assert line.barrier == float("inf")
    nowhere = loss_along(lambda p: p["x"].sqrt().sum(), at(-1.0), at(1.0), points=3)
    assert nowhere.barrier != nowhere.barrier


def test_errors_say_what_is_needed() -> None:
    with pytest.raises(PicoLMError, match="only one has y"):
        loss_along(lambda p: 0.0, at(1.0), {**at(1.0), "y": torch.ones(1)})
    with pytest.raises(PicoLMError, match=r"x is \[1\] in one model and \[2\]"):
        loss_along(lambda p: 0.0, at(1.0), at(1.0, 2.0))
    with pytest.raises(PicoLMError, match="three points"):
        loss_along(lambda p: 0.0, at(1.0), at(2.0), points=2)
