import json
from pathlib import Path

import numpy as np
import pytest
import torch

from picolm.analysis.power_law import fit_power_law, power_law
from picolm.analysis.spectrum import Spectrum

FITTED = json.loads((Path(__file__).parent / "fixtures" / "spectra.json").read_text(encoding="utf-8"))


def spectrum_of(eigenvalues: np.ndarray) -> Spectrum:
    values = torch.from_numpy(np.sort(np.sqrt(eigenvalues))[::-1].copy())
    return Spectrum(values, (len(values), len(values)), 2.2e-16)


@pytest.mark.parametrize("name", ["gaussian", "heavy"])
def test_fits_are_weightwatchers(name: str) -> None:
    theirs = FITTED[name]
    values = torch.tensor(theirs["singular_values"], dtype=torch.float64)
    ours = fit_power_law(Spectrum(values, tuple(theirs["shape"]), 2.2e-16))
    expected = [theirs[key] for key in ("alpha", "sigma", "D", "tail", "xmin")]
    assert [value.item() for value in ours] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [1.5, 2.5, 4.0])
def test_a_planted_exponent_is_found_within_its_error(alpha: float) -> None:
    uniform = np.random.default_rng(0).random(3000)
    fit = fit_power_law(spectrum_of((1 - uniform) ** (-1 / (alpha - 1))))
    assert abs(fit.alpha.item() - alpha) < 3 * fit.standard_error.item()
    assert fit.ks_distance < 0.03 and fit.tail > 500


def test_only_the_tail_is_fitted_where_the_body_is_none() -> None:
    rng = np.random.default_rng(1)
    tail = 10 * (1 - rng.random(1500)) ** (-1 / 2)
    fit = fit_power_law(spectrum_of(np.concatenate([tail, rng.uniform(1, 10, 1500)])))
    assert fit.minimum.item() == pytest.approx(10, rel=0.3) and fit.alpha.item() == pytest.approx(3, abs=0.3)


def test_noise_is_given_an_exponent_that_is_rejected() -> None:
    generator = torch.Generator().manual_seed(0)
    values = power_law(torch.randn(400, 400, generator=generator))
    assert values["alpha"].isnan() and values["tail"] < 50
    assert fit_power_law(torch.randn(400, 400, generator=generator)).alpha > 5
    heavy = torch.tensor(FITTED["heavy"]["singular_values"], dtype=torch.float64)
    assert power_law(Spectrum(heavy, (300, 200), 2.2e-16))["alpha"].item() == pytest.approx(FITTED["heavy"]["alpha"])


def test_a_fit_is_rejected_for_its_distance_or_for_its_length() -> None:
    far = spectrum_of(np.repeat([1.0, 100.0], 50))
    assert fit_power_law(far).tail == 100 and fit_power_law(far).ks_distance > 0.4
    uniform = (np.arange(40) + 0.5) / 40
    short = spectrum_of((1 - uniform) ** -1.0)
    assert fit_power_law(short).tail < 50 and fit_power_law(short).ks_distance < 0.1
    assert power_law(far)["alpha"].isnan() and power_law(short)["alpha"].isnan()


def test_scale_changes_no_exponent_and_zeros_are_left_out() -> None:
    values = torch.tensor(FITTED["heavy"]["singular_values"], dtype=torch.float64)
    with_zeros = torch.cat([1e30 * values, torch.zeros(5, dtype=torch.float64)])
    ours = fit_power_law(Spectrum(with_zeros, (300, 205), 2.2e-16))
    assert ours.alpha.item() == pytest.approx(FITTED["heavy"]["alpha"], rel=1e-9)


def test_without_two_different_eigenvalues_there_is_no_fit() -> None:
    for matrix in (torch.eye(6), torch.zeros(4, 4), torch.ones(4, 4)):
        assert all(value.isnan() for value in fit_power_law(matrix))
