import itertools

import pytest
import torch
from torch import Tensor

from picolm.analysis.chance import (
    above_chance,
    biased_cka_chance,
    cka_null,
    expected_biased_cka,
    null_band,
    permutation_null,
    permutations_of,
)
from picolm.analysis.cka import biased_cka, debiased_cka
from picolm.analysis.procrustes import procrustes
from picolm.errors import PicoLMError


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("d", "e"), [(2, 3), (9, 8)])
def test_the_means_over_all_permutations_are_in_closed_form(d: int, e: int) -> None:
    x, y = noise(0, 6, d) + 2, noise(1, 6, e)
    orders = [list(order) for order in itertools.permutations(range(6))]
    debiased = torch.stack([debiased_cka(x, y[order]) for order in orders])
    biased = torch.stack([biased_cka(x, y[order]) for order in orders])
    assert debiased.mean().item() == pytest.approx(0, abs=1e-12) and debiased.std() > 0.1
    assert biased.mean().item() == pytest.approx(biased_cka_chance(x, y).item(), rel=1e-10)


SPECTRA = {"flat": 0.0, "one over the root": 0.5, "one over i": 1.0}


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(("n", "d"), [(128, 64), (128, 512), (600, 128)])
def test_independent_activations_are_where_the_formula_says(n: int, d: int, spectrum: str) -> None:
    variances = torch.arange(1, d + 1, dtype=torch.float64) ** -SPECTRA[spectrum]
    ratio = (variances.sum().square() / variances.square().sum()).item()
    x, y = (noise(seed, 10, n, d) * variances.sqrt() for seed in (0, 1))
    expected = expected_biased_cka(n, ratio, ratio)
    assert biased_cka(x, y).mean().item() == pytest.approx(expected, abs=0.02)
    assert biased_cka_chance(x, y).mean().item() == pytest.approx(expected, abs=0.02)
    debiased = debiased_cka(x, y)
    assert abs(debiased.mean().item()) < 3.5 * debiased.std().item() / 10**0.5


def test_published_floors_at_128_rows() -> None:
    for width, floor in ((512, 0.801), (768, 0.858), (1024, 0.889), (2048, 0.941), (2560, 0.952)):
        assert expected_biased_cka(128, width, width) == pytest.approx(floor, abs=0.001)
    with pytest.raises(PicoLMError, match=r"two rows or more and participation ratios from 1 up, not 128, 0\.5, 3"):
        expected_biased_cka(128, 0.5, 3)


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize(("d", "e"), [(5, 3), (40, 3), (40, 50)])
def test_the_quick_null_of_cka_is_the_plain_one(d: int, e: int, debiased: bool) -> None:
    x, y = noise(0, 2, 20, d), noise(1, 2, 20, e)
    cka = debiased_cka if debiased else biased_cka
    plain = permutation_null(cka, x, y, permutations=5, seed=3)
    assert plain.shape == (2, 5)
    quick = cka_null(x, y, debiased=debiased, permutations=5, seed=3)
    torch.testing.assert_close(quick, plain, rtol=1e-9, atol=1e-12)


def test_a_band_holds_what_is_unrelated_and_not_what_is_related() -> None:
    x = noise(0, 100, 8)
    band = null_band(cka_null(x, x + 2 * noise(1, 100, 8), permutations=200))
    assert debiased_cka(x, x + 2 * noise(1, 100, 8)) > band["high"] > band["mean"] > band["low"]
    assert abs(band["mean"].item()) < 0.01
    inside = 0
    for seed in range(40):
        y = noise(100 + seed, 100, 8)
        ends = null_band(cka_null(x, y, permutations=100))
        inside += bool(ends["low"] <= debiased_cka(x, y) <= ends["high"])
    # 38 of 40 are expected, 3.4 standard deviations below are 33.
    assert inside >= 33


def test_nulls_work_for_any_similarity() -> None:
    x = noise(0, 30, 4)
    null = permutation_null(lambda a, b: procrustes(a, b)["distance"], x, x, permutations=20)
    assert null.min() > 0.3 > procrustes(x, x)["distance"]


def test_permutations_are_the_same_for_a_seed_and_each_is_one() -> None:
    orders = permutations_of(50, count=4, seed=7)
    assert torch.equal(orders, permutations_of(50, count=4, seed=7))
    assert torch.equal(orders[:2], permutations_of(50, count=2, seed=7))
    assert not torch.equal(orders, permutations_of(50, count=4, seed=8))
    assert torch.equal(orders.sort(-1).values, torch.arange(50).expand(4, 50))
    with pytest.raises(PicoLMError, match="a permutation at least, not 0"):
        permutations_of(5, count=0, seed=0)


def test_the_scale_above_chance() -> None:
    value, chance = torch.tensor([0.5, 0.9, 1.0, 0.2]), torch.tensor([0.5, 0.5, 0.5, 1.0])
    torch.testing.assert_close(above_chance(value, chance), torch.tensor([0, 0.8, 1, torch.nan]), equal_nan=True)


def test_a_band_needs_a_share() -> None:
    with pytest.raises(PicoLMError, match="between 0 and 1, not 95"):
        null_band(torch.zeros(10), level=95)
