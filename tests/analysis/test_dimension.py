"""TwoNN against brute force, known dimensions and scikit-dimension."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from picolm.analysis.dimension import neighbour_distances, two_nn
from picolm.errors import PicoLMError

from .fixtures.make_geometry import cloud

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "geometry.json").read_text(encoding="utf-8"))


def uniform(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.rand(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_it_agrees_with_scikit_dimension() -> None:
    assert len(FIXTURE["two_nn"]) == 3
    for case in FIXTURE["two_nn"]:
        found = two_nn(torch.from_numpy(cloud(case["seed"], case["n"], case["dimension"], case["width"])))
        assert float(found["slope"]) == pytest.approx(case["slope"], rel=1e-9)
        assert float(found["mle"]) == pytest.approx(case["mle"], rel=1e-9)
        assert found["duplicates"] == 0


@pytest.mark.parametrize("d", [1, 2, 4])
def test_it_finds_the_dimension_of_a_flat_cloud_wherever_it_lies(d: int) -> None:
    plane = torch.linalg.qr(uniform(20, d) - 0.5)[0]
    found = two_nn(uniform(3000, d, seed=d) @ plane.T + 5)
    # mle / d is the inverse of a mean of 3000 exponentials (neighbours share a little): 5 standard errors.
    assert float(found["mle"]) == pytest.approx(d, rel=5 / math.sqrt(3000))
    assert float(found["slope"]) == pytest.approx(d, rel=0.1)


def test_the_values_of_the_literature() -> None:
    """3,000 rows: of 10 dimensions about 9.9, of 20 about 17 (underestimated)."""
    ten = two_nn(torch.randn(3000, 10, generator=torch.Generator().manual_seed(0)))
    twenty = two_nn(torch.randn(3000, 20, generator=torch.Generator().manual_seed(0)))
    assert float(ten["slope"]) == pytest.approx(9.9, abs=0.6)
    assert float(twenty["slope"]) == pytest.approx(17.1, abs=1.0)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_neighbours_are_those_of_brute_force(offset: float) -> None:
    # More rows than a block; a far offset, and rows close to each other, where the quick distance is all rounding.
    rows = uniform(1500, 3) + offset
    rows[700:] = rows[:800] + 1e-7 * (uniform(800, 3, seed=1) + 0.1)
    exact = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    expected = exact.topk(2, largest=False, sorted=True).values
    assert torch.allclose(neighbour_distances(rows), expected, rtol=1e-9, atol=0)


def test_crowds_closer_than_the_quick_distance_can_tell_are_told_apart() -> None:
    # Six rows within 1e-8 of each other: |x|^2 - 2 x y + |y|^2 is wrong by about as much as it measures.
    crowds = uniform(40, 4).repeat_interleave(6, 0) + 1e-8 * uniform(240, 4, seed=1)
    exact = torch.cdist(crowds, crowds, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    expected = exact.topk(2, largest=False, sorted=True).values
    assert torch.allclose(neighbour_distances(crowds), expected, rtol=1e-6, atol=0)


def test_scale_and_rotation_change_nothing() -> None:
    rows = uniform(300, 4)
    turn = torch.linalg.qr(uniform(4, 4, seed=2) - 0.5)[0]
    for key in ("slope", "mle"):
        assert float(two_nn(1e-3 * rows @ turn)[key]) == pytest.approx(float(two_nn(rows)[key]), rel=1e-9)


def test_duplicates_are_left_out_and_counted() -> None:
    rows = uniform(200, 3)
    twice = torch.cat([rows, rows[:50], rows[:10]])
    found, once = two_nn(twice), two_nn(rows)
    assert found["duplicates"] == 60
    assert found["slope"] == once["slope"] and found["mle"] == once["mle"]


def test_layers_are_done_at_once() -> None:
    stack = torch.stack([uniform(90, 2), uniform(90, 2, seed=5), torch.ones(90, 2).double()])[:, None]
    found = two_nn(stack)
    assert found["slope"].shape == (3, 1)
    assert found["slope"][1, 0] == two_nn(stack[1, 0])["slope"]
    assert found["duplicates"].flatten().tolist() == [0, 0, 89] and found["mle"][2, 0].isnan()


def test_what_says_nothing_is_nan_or_infinite() -> None:
    nothing = two_nn(torch.zeros(5, 3))
    assert nothing["slope"].isnan() and nothing["mle"].isnan() and nothing["duplicates"] == 4
    assert two_nn(torch.ones(1, 3))["slope"].isnan() and two_nn(torch.eye(2))["mle"].isnan()
    bad = uniform(9, 2)
    bad[3, 1] = math.inf
    assert two_nn(bad)["slope"].isnan() and two_nn(bad)["duplicates"].isnan()
    # All neighbours of all rows are equally far.
    grid = two_nn(torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0)))
    assert grid["slope"] == math.inf and grid["mle"] == math.inf


def test_errors_say_what_is_needed() -> None:
    with pytest.raises(PicoLMError, match=r"\[..., n, d\]"):
        two_nn(torch.ones(4))
    with pytest.raises(PicoLMError, match="not 1"):
        two_nn(torch.ones(4, 4), dropped=1)
