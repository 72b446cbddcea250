import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from picolm.analysis.activation_rank import activation_participation_ratio, rank_me
from picolm.analysis.rank import (
    effective_rank,
    numerical_rank,
    participation_ratio,
    proportional_effective_rank,
    srank,
    stable_rank,
)
from picolm.analysis.spectrum import product_spectrum, spectrum
from picolm.errors import PicoLMError


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(seed: int, n: int) -> Tensor:
    q: Tensor = torch.linalg.qr(noise(seed, n, n)).Q
    return q


def test_golden_values() -> None:
    two = torch.diag(torch.tensor([2.0, 1.0, 1.0]))
    assert effective_rank(two).item() == pytest.approx(2.82843, abs=1e-5)
    assert proportional_effective_rank(two).item() == pytest.approx(0.94281, abs=1e-5)
    assert effective_rank(two, power=2).item() == pytest.approx(math.exp(math.log(6) - 2 / 3 * math.log(4)), rel=1e-12)
    assert stable_rank(two).item() == pytest.approx(6 / 4)
    assert participation_ratio(two).item() == pytest.approx(36 / 18)
    assert srank(two).item() == 3 and srank(two, delta=0.25).item() == 2 and srank(two, delta=0.5).item() == 1


@given(st.integers(1, 20))
def test_of_the_identity_every_rank_is_its_size(n: int) -> None:
    for function in (effective_rank, stable_rank, participation_ratio, numerical_rank):
        assert function(torch.eye(n)).item() == pytest.approx(n)
    assert proportional_effective_rank(torch.eye(n)).item() == pytest.approx(1)


def test_zero_singular_values_count_for_nothing() -> None:
    rank_one = torch.outer(torch.arange(1.0, 5), torch.arange(1.0, 7))
    assert proportional_effective_rank(rank_one).item() == pytest.approx(0.25, abs=1e-7)
    exact = torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert effective_rank(exact).item() == pytest.approx(3, rel=1e-12)
    assert numerical_rank(exact).item() == 3 and srank(exact).item() == 3


def test_a_zero_matrix_has_no_directions_and_rank_zero() -> None:
    zero = torch.zeros(4, 6)
    for function in (effective_rank, proportional_effective_rank, stable_rank, participation_ratio, srank):
        assert function(zero).isnan()
    assert numerical_rank(zero).item() == 0


@given(
    st.integers(2, 15), st.integers(2, 15), st.integers(1, 15), st.integers(0, 1000), st.sampled_from([0.0, 1.0, 4.0])
)
def test_ranks_are_ordered_as_renyi_entropies(m: int, n: int, r: int, seed: int, decay: float) -> None:
    scales = torch.arange(1, r + 1, dtype=torch.float64).pow(-decay)
    known = product_spectrum(noise(seed, m, r) * scales, noise(seed + 1, r, n))
    chain = [
        stable_rank(known),
        participation_ratio(known),
        effective_rank(known, power=2),
        effective_rank(known),
        torch.tensor(float(min(m, n, r))),
    ]
    assert all(low <= high * (1 + 1e-9) for low, high in itertools.pairwise(chain)), chain


@given(st.integers(0, 1000), st.floats(1e-30, 1e30))
def test_scale_and_rotations_change_nothing(seed: int, scale: float) -> None:
    matrix = noise(seed, 7, 5)
    turned = scale * orthogonal(seed + 1, 7) @ matrix @ orthogonal(seed + 2, 5)
    for function in (effective_rank, stable_rank, participation_ratio, srank, numerical_rank):
        assert function(turned).item() == pytest.approx(function(matrix).item(), rel=1e-9)


def test_the_four_published_ways_to_take_per() -> None:
    feed_forward = noise(0, 512, 2048)
    assert proportional_effective_rank(feed_forward).item() == pytest.approx(0.966, abs=0.002)
    assert proportional_effective_rank(feed_forward, top=64).item() == pytest.approx(0.9996, abs=0.0005)
    assert proportional_effective_rank(feed_forward, denominator=2048).item() == pytest.approx(0.242, abs=0.001)
    head = product_spectrum(noise(1, 512, 64), noise(2, 64, 512))
    assert proportional_effective_rank(head).item() == pytest.approx(0.966, abs=0.003)
    layer = spectrum(noise(3, 512, 512) @ noise(4, 512, 512))
    assert proportional_effective_rank(layer).item() == pytest.approx(0.667, abs=0.005)
    assert proportional_effective_rank(layer, top=64).item() == pytest.approx(0.993, abs=0.002)


def test_what_per_cannot_take_or_divide_by_is_refused() -> None:
    with pytest.raises(PicoLMError, match="of 3 singular values, 1 to 3 can be taken, not 4"):
        proportional_effective_rank(torch.eye(3), top=4)
    with pytest.raises(PicoLMError, match="divided by 1 or more, not by 0"):
        proportional_effective_rank(torch.eye(3), denominator=0)
    with pytest.raises(PicoLMError, match="delta must be from 0 to below 1, not 1"):
        srank(torch.eye(3), delta=1.0)


def test_the_numerical_rank_is_torchs_and_sees_through_the_rounding_of_float32() -> None:
    low = noise(0, 60, 8) @ noise(1, 8, 50)
    assert numerical_rank(low).item() == torch.linalg.matrix_rank(low).item() == 8
    assert numerical_rank(low.float()).item() == 8
    assert numerical_rank(low, tolerance=0.99).item() == 1
    # What float32 left beside the eight: fifty singular values that are not 0.
    assert spectrum(low.float()).values[-1] > 1e-9


def test_rank_me_is_the_formula_with_its_epsilon() -> None:
    rows = noise(0, 50, 6) + 3
    values = np.linalg.svd(rows.numpy(), compute_uv=False)
    shares = values / values.sum() + 1e-7
    assert rank_me(rows).item() == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-12)
    # It does not centre: the mean is one large direction.
    assert rank_me(rows) < rank_me(rows - rows.mean(0))


@pytest.mark.parametrize(("n", "d"), [(40, 7), (7, 40)])
def test_the_participation_ratio_of_activations_is_that_of_their_covariance(n: int, d: int) -> None:
    rows = noise(0, n, d) * torch.arange(1, d + 1) + 100
    eigenvalues = np.linalg.eigvalsh(np.cov(rows.numpy().T))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert activation_participation_ratio(rows).item() == pytest.approx(expected, rel=1e-9)
    assert activation_participation_ratio(1e-100 * rows).item() == pytest.approx(expected, rel=1e-9)
    centred = rows - rows.mean(0)
    assert participation_ratio(centred).item() == pytest.approx(expected, rel=1e-9)


def test_few_rows_lower_the_participation_ratio_as_the_docstring_says() -> None:
    n, d = 300, 200
    assert activation_participation_ratio(noise(0, n, d)).item() == pytest.approx(d * n / (d + n), rel=0.02)


def test_equal_rows_have_no_participation_ratio() -> None:
    assert activation_participation_ratio(torch.full((7, 3), 0.1, dtype=torch.float64)).isnan()
