import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from picolm.analysis.distribution import gini, hoyer, sparsity

NOISE = torch.randn(1500, 1200, generator=torch.Generator().manual_seed(0))
entries = st.lists(st.floats(-10, 10), min_size=2, max_size=12).filter(
    lambda values: any(abs(v) > 1e-3 for v in values)
)


@given(entries)
def test_the_gini_index_is_the_mean_difference_over_twice_the_mean(values: list[float]) -> None:
    x = np.abs(values)
    brute = np.abs(x[:, None] - x).sum() / (2 * len(x) ** 2 * x.mean())
    assert gini(torch.tensor([values], dtype=torch.float64)).item() == pytest.approx(brute, rel=1e-9, abs=1e-12)


@given(entries, st.floats(1e-20, 1e20))
def test_order_sign_and_scale_change_nothing(values: list[float], scale: float) -> None:
    matrix = torch.tensor([values], dtype=torch.float64)
    changed = -scale * matrix.flip(-1).mT
    for function in (gini, hoyer, sparsity):
        assert function(changed).item() == pytest.approx(function(matrix).item(), rel=1e-9, abs=1e-12)


def test_golden_values_of_gaussian_noise() -> None:
    assert gini(NOISE).item() == pytest.approx(math.sqrt(2) - 1, abs=0.001)
    assert hoyer(NOISE).item() == pytest.approx(1 - math.sqrt(2 / math.pi), abs=0.001)
    for epsilon in (0.01, 0.5):
        expected = math.erf(epsilon / math.sqrt(2))
        assert sparsity(NOISE, epsilon=epsilon).item() == pytest.approx(expected, abs=0.001)


def test_ranks_of_more_entries_than_half_precision_counts() -> None:
    rounded = NOISE.bfloat16()
    assert gini(rounded).item() == pytest.approx(gini(rounded.double()).item(), rel=1e-12)
    assert gini(rounded).item() == pytest.approx(math.sqrt(2) - 1, abs=0.001)


def test_the_ends_of_the_scales() -> None:
    alike, alone = torch.full((3, 4), -0.1), torch.zeros(3, 4)
    alone[1, 2] = 7
    assert gini(alike).item() == pytest.approx(0, abs=1e-12) and hoyer(alike).item() == pytest.approx(0, abs=1e-7)
    assert gini(alone).item() == pytest.approx(11 / 12) and hoyer(alone).item() == pytest.approx(1)
    assert sparsity(alike).item() == 0 and sparsity(alone).item() == pytest.approx(11 / 12)
    for function in (gini, hoyer, sparsity):
        assert function(torch.zeros(3, 4)).isnan()
    assert gini(torch.ones(1, 1)).item() == 0 and hoyer(torch.ones(1, 1)).isnan()
