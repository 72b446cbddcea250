import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from picolm.analysis.procrustes import procrustes


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scaled(rows: Tensor) -> Tensor:
    rows = rows - rows.mean(0)
    return rows / torch.linalg.norm(rows)


@pytest.mark.parametrize(("n", "d", "e"), [(20, 3, 3), (20, 3, 5), (20, 5, 3), (4, 9, 7)])
def test_the_distance_is_what_the_best_rotation_leaves(n: int, d: int, e: int) -> None:
    x, y = noise(0, n, d) + 4, noise(1, n, e)
    width = max(d, e)
    a, b = (torch.nn.functional.pad(scaled(rows), (0, width - rows.shape[1])) for rows in (x, y))
    left, _, right = torch.linalg.svd(a.T @ b)
    best = torch.linalg.norm(a @ (left @ right) - b).item()
    found = procrustes(x, y)
    assert found["distance"].item() == pytest.approx(best, rel=1e-9)
    assert found["angle"].item() == pytest.approx(math.acos(1 - best**2 / 2), rel=1e-9)
    for seed in range(2, 20):
        rotation = torch.linalg.qr(noise(seed, width, width)).Q
        assert torch.linalg.norm(a @ rotation - b).item() >= best


@given(st.integers(0, 1000), st.floats(0.001, 1000), st.floats(-100, 100))
def test_shift_scale_and_rotation_change_nothing(seed: int, scale: float, shift: float) -> None:
    x, y = noise(seed, 15, 4), noise(seed + 1, 15, 4)
    turned = scale * x @ torch.linalg.qr(noise(seed + 2, 4, 4)).Q + shift
    assert procrustes(turned, y)["angle"].item() == pytest.approx(procrustes(x, y)["angle"].item(), rel=1e-8)
    assert procrustes(turned, x)["distance"].item() == pytest.approx(0, abs=2e-7)


@given(st.integers(0, 1000))
def test_no_detour_is_shorter(seed: int) -> None:
    x, y, z = (noise(seed + place, 12, width) for place, width in enumerate((4, 5, 6)))
    for name in ("distance", "angle"):
        assert procrustes(x, z)[name] <= procrustes(x, y)[name] + procrustes(y, z)[name] + 1e-12


def test_equal_rows_have_no_distance() -> None:
    found = procrustes(torch.full((6, 3), 0.1, dtype=torch.float64), noise(0, 6, 2))
    assert found["distance"].isnan() and found["angle"].isnan()
