import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from picolm.analysis.spectrum import Spectrum, product_spectrum, spectrum
from picolm.errors import PicoLMError


def random_matrix(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 100))
def test_singular_values_are_numpys_whatever_the_shape(m: int, n: int, seed: int) -> None:
    matrix = random_matrix(seed, m, n)
    expected = np.linalg.svd(matrix.numpy(), compute_uv=False)
    np.testing.assert_allclose(spectrum(matrix).values.numpy(), expected, rtol=1e-10, atol=1e-13)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 100))
def test_the_spectrum_of_a_product_is_that_of_the_product(m: int, r: int, n: int, seed: int) -> None:
    left, right = random_matrix(seed, m, r), random_matrix(seed + 1, r, n)
    found = product_spectrum(left, right)
    expected = np.linalg.svd((left @ right).numpy(), compute_uv=False)
    assert found.max_rank == min(m, n, r) and found.shape == (m, n) and found.inner == r
    np.testing.assert_allclose(found.values.numpy(), expected[: found.max_rank], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(expected[found.max_rank :], 0, atol=1e-12)


def test_ov_circuits_of_all_heads_at_once_are_not_those_of_the_product_the_other_way_round() -> None:
    heads, d_head, d_model = 4, 8, 48
    output, value = random_matrix(0, heads, d_model, d_head), random_matrix(1, heads, d_head, d_model)
    found = product_spectrum(output, value).values
    torch.testing.assert_close(found, torch.linalg.svdvals(output @ value)[:, :d_head], rtol=1e-10, atol=1e-12)
    # W_V W_O has the eigenvalues of W_O W_V and other singular values.
    assert not torch.allclose(found, torch.linalg.svdvals(value @ output), rtol=0.1)


def test_a_product_with_an_entry_that_is_not_finite_is_nan_alone() -> None:
    left, right = random_matrix(0, 2, 9, 3), random_matrix(1, 2, 3, 7)
    left[0, 4, 1] = torch.inf
    values = product_spectrum(left, right).values
    assert values[0].isnan().all() and values[1].isfinite().all()


def test_a_spectrum_is_handed_back_and_knows_its_precision() -> None:
    known = spectrum(random_matrix(0, 4, 6))
    assert spectrum(known) is known and known.precision == torch.finfo(torch.float64).eps
    for dtype in (torch.float32, torch.bfloat16):
        assert spectrum(random_matrix(0, 4, 6).to(dtype)).precision == torch.finfo(torch.float32).eps
    mixed = product_spectrum(random_matrix(0, 4, 2), random_matrix(0, 2, 6).float())
    assert mixed.precision == torch.finfo(torch.float32).eps
    assert isinstance(known, Spectrum) and known.inner is None and known.max_rank == 4


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(PicoLMError, match=r"a matrix \[..., m, n\] that is not empty is needed, not \[3\]"):
        spectrum(torch.ones(3))
    with pytest.raises(PicoLMError, match=r"not \[2, 0\]"):
        spectrum(torch.ones(2, 0))
    with pytest.raises(PicoLMError, match=r"\[..., m, r\] and \[..., r, n\], not \[4, 2\] and \[3, 4\]"):
        product_spectrum(torch.ones(4, 2), torch.ones(3, 4))
