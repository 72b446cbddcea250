"""Dormant units and the size of updates: closed forms, PyTorch's own norms, and edges."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from picolm.analysis.plasticity import dormancy, dormant_units, module_norms, relative_change, update_cosine
from picolm.errors import PicoLMError


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_dormancy_by_hand() -> None:
    # Mean sizes 2, 1, 0 and 1: on average 1.
    h = torch.tensor([[1.0, 1.0, 0.0, 2.0], [-3.0, -1.0, 0.0, 0.0]])
    assert dormancy(h).tolist() == [2.0, 1.0, 0.0, 1.0]
    found = dormant_units(h, threshold=1.0)
    assert (float(found["dormant"]), float(found["dead"])) == (0.75, 0.25)


def test_known_units_fall_asleep_and_die() -> None:
    h = normal(500, 100)
    h[:, :7] *= 1e-3
    h[:, 7:10] = 0
    found = dormant_units(h)
    assert float(found["dormant"]) == pytest.approx(0.10) and float(found["dead"]) == pytest.approx(0.03)
    # At 0.1 the same; beyond all scores, everything.
    assert dormant_units(h, threshold=0.1)["dormant"] == found["dormant"]
    assert dormant_units(h, threshold=2.0)["dormant"] == 1.0


@given(st.integers(0, 10_000), st.floats(1e-6, 1e6))
def test_dormancy_has_mean_1_and_knows_no_scale(seed: int, scale: float) -> None:
    h = normal(3, 20, 6, seed=seed)
    assert torch.allclose(dormancy(h).mean(-1), torch.ones(3, dtype=torch.float64))
    assert torch.allclose(dormancy(scale * h), dormancy(h), rtol=1e-12)
    found = dormant_units(h, threshold=0.9)
    assert (found["dead"] <= found["dormant"]).all()


def test_a_silent_layer_is_all_dead_and_a_broken_one_is_nan() -> None:
    silent = dormant_units(torch.zeros(4, 3))
    assert silent["dormant"] == 1.0 and silent["dead"] == 1.0
    h = normal(2, 4, 3)
    h[1, 0, 0] = math.nan
    for share in dormant_units(h).values():
        assert share[0] < 1 and share[1].isnan()
    h[1, 0, 0] = math.inf
    assert dormant_units(h)["dormant"][1].isnan()
    for shape in [(5,), (0, 3), (3, 0)]:
        with pytest.raises(PicoLMError, match="1 row or more"):
            dormant_units(torch.ones(shape))


def test_relative_change_of_a_step_of_known_size() -> None:
    weight, direction = normal(6, 4), normal(6, 4, seed=1)
    step = 0.01 * weight.norm() * direction / direction.norm()
    assert float(relative_change(weight + step, weight)) == pytest.approx(0.01, rel=1e-12)
    assert float(relative_change(3 * weight, weight)) == pytest.approx(2.0)
    stack = relative_change(torch.stack([weight, 2 * weight]), torch.stack([weight, weight]))
    assert stack.tolist() == pytest.approx([0.0, 1.0])


def test_relative_change_at_zero() -> None:
    zero, one = torch.zeros(2, 2), torch.ones(2, 2)
    assert relative_change(zero, zero) == 0 and relative_change(one, zero) == math.inf
    assert relative_change(torch.full((2, 2), math.nan), one).isnan()


def test_update_cosine_is_that_of_the_flat_vectors() -> None:
    first, second = normal(3, 5, 4), normal(3, 5, 4, seed=1)
    expected = torch.cosine_similarity(first.flatten(1), second.flatten(1))
    assert torch.allclose(update_cosine(first, second), expected, rtol=1e-12)
    assert torch.allclose(update_cosine(1e-200 * first, 1e-250 * second), expected, rtol=1e-12)
    assert float(update_cosine(first[0], -2 * first[0])) == pytest.approx(-1.0)
    assert update_cosine(first[0], torch.zeros(5, 4)).isnan()
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert update_cosine(one, other) == 0


def test_small_updates_in_float32_are_not_lost() -> None:
    weight = torch.full((10, 10), 1.0)
    moved = weight + torch.finfo(torch.float32).eps
    assert float(relative_change(moved, weight)) == pytest.approx(torch.finfo(torch.float32).eps, rel=1e-12)


def test_pairs_of_different_shapes_are_refused() -> None:
    for function in (relative_change, update_cosine):
        with pytest.raises(PicoLMError, match="one shape"):
            function(torch.ones(3, 4), torch.ones(4, 3))
        with pytest.raises(PicoLMError, match="one shape"):
            function(torch.ones(3), torch.ones(3))


def test_norms_of_modules_add_up_to_that_which_clipping_sees() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.Sequential(nn.Tanh(), nn.Linear(6, 3)), nn.Linear(3, 1))
    net(torch.ones(2, 4)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None}
    found = module_norms(gradients)
    assert set(found) == {"0", "1", "1.1", "2", ""}
    assert found[""] == pytest.approx(float(nn.utils.get_total_norm(list(gradients.values()))), rel=1e-6)
    assert found[""] ** 2 == pytest.approx(found["0"] ** 2 + found["1"] ** 2 + found["2"] ** 2)
    assert found["1"] == found["1.1"]
    both = torch.cat([gradients["0.weight"].flatten(), gradients["0.bias"]])
    assert found["0"] == pytest.approx(float(both.norm()), rel=1e-6)
    assert module_norms({}) == {}
