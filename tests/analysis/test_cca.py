import numpy as np
import pytest
import torch
from torch import Tensor

from picolm.analysis.cca import cca, pwcca, svcca
from picolm.analysis.pwcca_published import compat_pwcca
from picolm.errors import PicoLMError


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def related(n: int = 200, d: int = 4, e: int = 6) -> tuple[Tensor, Tensor]:
    x = noise(0, n, d) * torch.arange(1, d + 1) + 3
    return x, x @ noise(1, d, e) + 4 * noise(2, n, e)


def test_correlations_are_those_of_the_covariances() -> None:
    x, y = related()
    covariance = torch.from_numpy(np.cov(x.numpy().T, y.numpy().T))
    sxx, sxy, syy = covariance[:4, :4], covariance[:4, 4:], covariance[4:, 4:]
    squared = torch.linalg.eigvals(torch.linalg.solve(sxx, sxy) @ torch.linalg.solve(syy, sxy.T)).real.sort().values
    values = cca(x, y)
    assert values["mean_squared"].item() == pytest.approx(squared.mean().item(), rel=1e-9)
    assert values["mean"].item() == pytest.approx(squared.sqrt().mean().item(), rel=1e-9)


def test_one_planted_correlation() -> None:
    n = 5000
    shared = noise(0, n, 1)
    x = torch.cat([shared, noise(1, n, 2)], -1)
    y = torch.cat([0.6 * shared + 0.8 * noise(2, n, 1), noise(3, n, 2)], -1)
    assert cca(x, y)["mean_squared"].item() == pytest.approx(0.36 / 3, abs=0.02)


def test_invertible_maps_of_either_side_change_no_correlation() -> None:
    x, y = related()
    mixed = x @ noise(7, 4, 4) - 50
    for name, value in cca(x, y).items():
        assert cca(mixed, 1e4 * y @ noise(8, 6, 6))[name].item() == pytest.approx(value.item(), rel=1e-8)
    # Weights are sums over columns, so of PWCCA only shifts, scales and orders of columns are left.
    changed = pwcca(-3 * x.flip(-1) + 9, y)
    for name, value in pwcca(x, y).items():
        assert changed[name].item() == pytest.approx(value.item(), rel=1e-9)
    assert pwcca(mixed, y)["second"].item() == pytest.approx(pwcca(x, y)["second"].item(), rel=1e-9)
    assert abs(pwcca(mixed, y)["first"].item() - pwcca(x, y)["first"].item()) > 1e-4


def test_correlations_of_independent_activations_are_the_chance_that_is_told() -> None:
    values = cca(noise(0, 20, 300, 30), noise(1, 20, 300, 20))
    assert values["chance"][0].item() == pytest.approx(30 / 299)
    assert values["mean_squared"].mean().item() == pytest.approx(30 / 299, rel=0.03)


def test_with_as_many_columns_as_rows_all_is_one_and_so_is_chance() -> None:
    values = cca(noise(0, 10, 12), noise(1, 10, 3))
    assert [value.item() for value in values.values()] == pytest.approx([1, 1, 1], rel=1e-12)


def test_directions_that_are_rounding_error_are_left_out() -> None:
    x, y = related(e=3)
    # A column that depends on others, in float32: the direction that is left is noise.
    dependent = torch.cat([x, x.sum(-1, keepdim=True)], -1).float()
    assert cca(dependent, y)["chance"].item() == pytest.approx(4 / 199)
    assert cca(dependent, y)["mean"].item() == pytest.approx(cca(x, y)["mean"].item(), rel=1e-5)


def test_svcca_is_cca_of_the_fewest_components_that_make_up_the_variance() -> None:
    x, y = noise(0, 300, 8) * 2.0 ** -torch.arange(8), noise(1, 300, 8)
    y = x @ noise(2, 8, 5) + y[:, :5]
    for share in (0.8, 0.99, 1.0):
        kept = []
        for rows in (x, y):
            rows = rows - rows.mean(0)
            u, s, _ = np.linalg.svd(rows.numpy(), full_matrices=False)
            count = int(np.argmax(np.cumsum(s**2) >= share * (1 - 1e-12) * (s**2).sum())) + 1
            kept.append(torch.from_numpy(u[:, :count] * s[:count]))
        expected = cca(*kept)
        for name, value in svcca(x, y, variance=share).items():
            assert value.item() == pytest.approx(expected[name].item(), rel=1e-9), (share, name)
    assert svcca(x, y, variance=0.8)["chance"] < svcca(x, y)["chance"] < svcca(x, y, variance=1.0)["chance"]


def test_shares_of_a_variance_below_sigma_are_of_squares() -> None:
    # Of sigma (10, 1): squares give 99.0 % to the first, sums 90.9 %.
    x = torch.linalg.qr(noise(0, 50, 3) - noise(0, 50, 3).mean(0)).Q[:, :2] * torch.tensor([10.0, 1.0])
    assert svcca(x, x, variance=0.98)["chance"].item() == pytest.approx(1 / 49)
    assert svcca(x, x, variance=0.995)["chance"].item() == pytest.approx(2 / 49)


@pytest.mark.parametrize("function", [cca, svcca, pwcca])
def test_a_side_without_variance_has_no_correlations(function) -> None:  # type: ignore[no-untyped-def]
    for values in (
        function(torch.full((9, 2), 0.1, dtype=torch.float64), noise(0, 9, 3)),
        function(noise(0, 9, 3), torch.zeros(9, 2)),
    ):
        assert all(value.isnan() for value in values.values())


@pytest.mark.parametrize("function", [cca, svcca, pwcca])
def test_activations_are_wholly_like_themselves(function) -> None:  # type: ignore[no-untyped-def]
    x, _ = related()
    values = function(x, x)
    assert all(value.item() == pytest.approx(1, rel=1e-9) for name, value in values.items() if name != "chance")


def test_projection_weights_are_the_papers() -> None:
    x, y = (rows - rows.mean(0) for rows in related())
    ux, uy = torch.linalg.qr(x).Q, torch.linalg.qr(y).Q
    left, rho, right = torch.linalg.svd(ux.T @ uy, full_matrices=False)
    expected = []
    for variates, rows in ((ux @ left, x), (uy @ right.T, y)):
        alpha = [sum(abs(float(h @ column)) for column in rows.T) for h in variates.T]
        expected.append(sum(a * float(r) for a, r in zip(alpha, rho, strict=True)) / sum(alpha))
    found = pwcca(x, y)
    values = [found["first"].item(), found["second"].item(), found["mean"].item()]
    assert values == pytest.approx([*expected, sum(expected) / 2], rel=1e-9)


def test_directions_that_are_left_out_have_no_weight() -> None:
    x, y = related()
    dependent = torch.cat([x, x.sum(-1, keepdim=True)], -1)
    assert pwcca(dependent, y)["second"].item() == pytest.approx(pwcca(x, y)["second"].item(), rel=1e-9)


def test_the_published_pwcca_is_not_blind_to_shifts() -> None:
    x, y = related()
    assert compat_pwcca(x - x.mean(0), y).item() == pytest.approx(pwcca(x, y)["first"].item(), abs=0.02)
    assert abs(compat_pwcca(x + 50, y).item() - compat_pwcca(x - x.mean(0), y).item()) > 0.005


def test_what_has_no_published_value_is_refused() -> None:
    x, y = related()
    with pytest.raises(PicoLMError, match=r"needs n > d' >= d, not n = 200, d' = 4, d = 6: take pwcca"):
        compat_pwcca(y, x)
    with pytest.raises(PicoLMError, match="not n = 4, d' = 6, d = 4"):
        compat_pwcca(x[:4], y[:4])
    with pytest.raises(PicoLMError, match="above 0 and up to 1, not 99"):
        svcca(x, y, variance=99)
