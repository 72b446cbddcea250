"""Lanczos, Hutchinson and quadrature on matrices whose eigenvalues are known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from picolm.analysis.eigenvalues import Operator, lanczos, spectral_density, trace
from picolm.errors import PicoLMError


def symmetric(size: int, seed: int = 0) -> Tensor:
    matrix = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (matrix + matrix.T) / 2


def operator(matrix: Tensor) -> Operator:
    return Operator(lambda vector: matrix @ vector, matrix[0])


@given(st.integers(1, 14), st.integers(0, 10_000))
def test_as_many_iterations_as_rows_give_all_eigenvalues(size: int, seed: int) -> None:
    matrix = symmetric(size, seed)
    found = lanczos(operator(matrix), iterations=100, seed=seed)
    exact = torch.linalg.eigvalsh(matrix).flip(0)
    assert torch.allclose(found.values, exact, atol=1e-9)
    assert float(found.weights.sum()) == pytest.approx(1.0)
    assert found.residuals.max() < 1e-9


def test_the_ends_of_a_large_spectrum_come_first_and_residuals_bound_the_error() -> None:
    spectrum = torch.cat([torch.tensor([-3.0, 8.0, 10.0]), torch.linspace(-1, 1, 497)]).double()
    turn = torch.linalg.qr(symmetric(500))[0]
    matrix = turn @ torch.diag(spectrum) @ turn.T
    found = lanczos(operator(matrix), iterations=30, seed=0)
    assert found.values[:2].tolist() == pytest.approx([10.0, 8.0], rel=1e-10)
    assert float(found.values[-1]) == pytest.approx(-3.0, rel=1e-8)
    distance = (found.values[:, None] - spectrum).abs().amin(1)
    assert (distance <= found.residuals + 1e-10).all()
    # Inside, where nothing has settled, they say so.
    assert found.residuals.max() > 1e-3


def test_orthogonality_is_kept_where_plain_lanczos_loses_it() -> None:
    # Without reorthogonalisation, values that have settled come back as ghosts long before 60 iterations.
    spectrum = torch.cat([torch.tensor([100.0, 50.0]), torch.linspace(0, 1, 198)]).double()
    found = lanczos(operator(torch.diag(spectrum)), iterations=60, seed=0)
    assert (found.values > 20).sum() == 2
    single = lanczos(operator(torch.diag(spectrum).float()), iterations=60, seed=0)
    assert (single.values > 20).sum() == 2
    assert single.values[:2].tolist() == pytest.approx([100.0, 50.0], rel=1e-5)


@pytest.mark.parametrize("matrix", [torch.zeros(6, 6), 3 * torch.eye(6), torch.eye(1)])
def test_it_ends_early_where_there_are_no_further_directions(matrix: Tensor) -> None:
    found = lanczos(operator(matrix.double()), iterations=6, seed=0)
    assert found.values.tolist() == pytest.approx([float(matrix[0, 0])]) and found.residuals[0] < 1e-12


def test_a_matrix_of_rank_one_has_two_values() -> None:
    u = torch.arange(1.0, 8.0, dtype=torch.float64)
    found = lanczos(operator(torch.outer(u, u)), iterations=7, seed=1)
    assert float(found.values[0]) == pytest.approx(float(u @ u))
    assert found.values[1:].abs().max() < 1e-10


def test_the_start_is_keyed() -> None:
    one = operator(symmetric(40))
    first = lanczos(one, iterations=5, seed=0)
    state = torch.get_rng_state()
    assert torch.equal(lanczos(one, iterations=5, seed=0).values, first.values)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(lanczos(one, iterations=5, seed=1).values, first.values)
    assert not torch.equal(lanczos(one, iterations=5, seed=0, start=1).values, first.values)


def test_the_trace_of_a_diagonal_matrix_is_exact() -> None:
    found = trace(operator(torch.diag(torch.arange(9.0))), draws=2, seed=0)
    assert found.value == 36 and found.se == 0 and found.draws == 2


def test_the_trace_and_its_error_have_the_known_variance() -> None:
    matrix = symmetric(30)
    off_diagonal = matrix.square().sum() - matrix.diagonal().square().sum()
    found = trace(operator(matrix), draws=4000, seed=0)
    assert found.se == pytest.approx(math.sqrt(2 * float(off_diagonal) / 4000), rel=0.05)
    assert abs(found.value - float(matrix.trace())) < 4 * found.se


def test_further_draws_leave_the_first_as_they_are() -> None:
    seen: list[Tensor] = []
    noted = Operator(lambda vector: seen.append(vector) or vector, torch.zeros(50))  # type: ignore[func-returns-value]
    trace(noted, draws=3, seed=0)
    trace(noted, draws=2, seed=0)
    assert torch.equal(seen[0], seen[3]) and torch.equal(seen[1], seen[4]) and not torch.equal(seen[0], seen[1])
    assert set(seen[0].tolist()) == {-1.0, 1.0}


def test_quadrature_has_the_moments_of_the_spectrum() -> None:
    size = 200
    turn = torch.linalg.qr(symmetric(size))[0]
    spectrum = torch.cat([torch.tensor([5.0, 7.0]), torch.linspace(-1, 1, size - 2)]).double()
    matrix = turn @ torch.diag(spectrum) @ turn.T
    density = spectral_density(operator(matrix), draws=60, iterations=12, seed=0)
    assert torch.allclose(density.weights.sum(1), torch.ones(60, dtype=torch.float64))
    for power in (1, 2, 3):
        each = (density.weights * density.values**power).sum(1)
        error = float(each.std()) / math.sqrt(60)
        assert abs(density.moment(power) - float((spectrum**power).mean())) < 4 * error
    assert density.moment(0) == pytest.approx(1.0)


def test_each_draw_of_the_quadrature_has_its_own_moments_exactly() -> None:
    matrix = symmetric(25)
    seen: list[Tensor] = []
    noted = Operator(lambda vector: seen.append(vector) or matrix @ vector, matrix[0])  # type: ignore[func-returns-value]
    found = lanczos(noted, iterations=4, seed=0)
    v = seen[0]
    for power in range(8):  # up to 2 m - 1
        expected = float(v @ torch.linalg.matrix_power(matrix, power) @ v)
        assert float((found.weights * found.values**power).sum()) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_density_integrates_to_1_and_shows_the_share_of_outliers() -> None:
    spectrum = torch.cat([torch.full((50,), 6.0), torch.zeros(150)]).double()
    density = spectral_density(operator(torch.diag(spectrum)), draws=40, iterations=10, seed=0)
    # Two different eigenvalues: each draw ends after two products.
    assert density.values.shape == (40, 2)
    points = torch.linspace(-2, 8, 2001)
    heights = density.at(points, width=0.2)
    assert float(torch.trapezoid(heights.float(), points)) == pytest.approx(1.0, abs=1e-4)
    upper = points > 3
    assert float(torch.trapezoid(heights[upper].float(), points[upper])) == pytest.approx(0.25, abs=0.02)


def test_scaling_is_that_of_rows_and_columns() -> None:
    matrix, scales = symmetric(8), torch.rand(8, dtype=torch.float64) + 0.5
    found = lanczos(operator(matrix).scaled(scales), iterations=8, seed=0).values
    # D A D has the eigenvalues of D^2 A.
    expected = torch.linalg.eigvals(torch.diag(scales**2) @ matrix).real.sort(descending=True).values
    assert torch.allclose(found, expected, atol=1e-9)


def test_errors_say_what_is_needed() -> None:
    one = operator(torch.eye(3))
    with pytest.raises(PicoLMError, match="one iteration"):
        lanczos(one, iterations=0, seed=0)
    with pytest.raises(PicoLMError, match="two draws"):
        trace(one, draws=1, seed=0)
    with pytest.raises(PicoLMError, match="one draw"):
        spectral_density(one, draws=0, iterations=3, seed=0)
    with pytest.raises(PicoLMError, match="not finite"):
        lanczos(operator(torch.full((3, 3), math.nan)), iterations=3, seed=0)
