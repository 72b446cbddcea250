import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from picolm.analysis.conditioning import condition_number, full_condition_number
from picolm.analysis.norms import frobenius_norm, max_abs, nuclear_norm, spectral_norm
from picolm.analysis.spectrum import product_spectrum, spectrum


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(1, 10), st.integers(1, 10), st.integers(0, 100))
def test_norms_and_conditions_are_torchs(m: int, n: int, seed: int) -> None:
    matrix = noise(seed, m, n)
    pairs = {frobenius_norm: "fro", spectral_norm: 2, nuclear_norm: "nuc"}
    for function, name in pairs.items():
        expected = torch.linalg.matrix_norm(matrix, name).item()
        assert function(matrix).item() == pytest.approx(expected, rel=1e-10)
        assert function(spectrum(matrix)).item() == pytest.approx(expected, rel=1e-10)
    assert max_abs(matrix).item() == matrix.abs().max().item()
    assert full_condition_number(matrix).item() == pytest.approx(torch.linalg.cond(matrix).item(), rel=1e-8)
    assert condition_number(matrix).item() == pytest.approx(full_condition_number(matrix).item(), rel=1e-12)


def test_the_condition_of_low_rank_is_taken_within_the_rank() -> None:
    scales = torch.tensor([8.0, 4.0, 2.0], dtype=torch.float64)
    left, right = (torch.linalg.qr(noise(seed, 20, 3)).Q for seed in (0, 1))
    low = left * scales @ right.mT
    assert condition_number(low).item() == pytest.approx(4, rel=1e-9)
    assert condition_number(low.float()).item() == pytest.approx(4, rel=1e-5)
    # The whole spectrum of the same matrix is noise, and of the product it is known to hold zeros.
    assert full_condition_number(low) > 1e12
    product = product_spectrum(left * scales, right.mT)
    assert condition_number(product).item() == pytest.approx(4, rel=1e-9)
    assert full_condition_number(product).item() == math.inf


def test_the_condition_of_an_elongated_random_matrix_is_that_of_its_shape() -> None:
    gamma = 400 / 1600
    expected = (1 + gamma**0.5) / (1 - gamma**0.5)
    assert condition_number(noise(0, 400, 1600)).item() == pytest.approx(expected, rel=0.05)


def test_a_zero_matrix_has_norms_and_no_condition() -> None:
    zero = torch.zeros(3, 5)
    for norm in (frobenius_norm, spectral_norm, nuclear_norm, max_abs):
        assert norm(zero).item() == 0
    assert condition_number(zero).isnan() and full_condition_number(zero).isnan()
    singular = torch.diag(torch.tensor([2.0, 1.0, 0.0]))
    assert condition_number(singular).item() == 2 and full_condition_number(singular).item() == math.inf


def test_frobenius_sums_in_float64() -> None:
    # In float32 a sum of 2^25 ones would stop at 2^24.
    assert frobenius_norm(torch.ones(1, 1).expand(2**13, 2**12)).item() == pytest.approx(2**12.5, rel=1e-12)
