"""The gradient noise scale: unbiased pieces, recovered planted values, and a real gradient cut in two ways."""

import math

import pytest
import torch
from torch import Tensor

from picolm.analysis.noise import Noise, noise_of_gradients, noise_of_norms, noise_scale, smoothed
from picolm.errors import PicoLMError

P, TRACE, SIGNAL = 400, 200.0, 3.5
"""Planted: tr C and |G|^2, as in the specification's simulation."""


def planted(*leading: int, n: int, seed: int = 0) -> Tensor:
    """Gradients [..., n, P] of single sequences with mean G and covariance C, not isotropic."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.linspace(0.1, 2.0, P, dtype=torch.float64)
    spectrum *= TRACE / spectrum.sum()
    mean = torch.ones(P, dtype=torch.float64)
    mean *= math.sqrt(SIGNAL / P)
    return mean + spectrum.sqrt() * torch.randn(*leading, n, P, dtype=torch.float64, generator=generator)


def within(values: Tensor, truth: float, errors: float = 4.0) -> bool:
    """Whether the mean of independent values is the truth, up to its standard error."""
    return bool(abs(values.mean() - truth) < errors * values.std() / math.sqrt(len(values)))


def test_both_estimators_recover_what_was_planted_without_bias() -> None:
    gradients = planted(400, n=64)
    of_gradients = noise_of_gradients(gradients)
    assert within(of_gradients.trace, TRACE) and within(of_gradients.signal, SIGNAL)
    small = gradients.view(400, 4, 16, P).mean(2).square().sum(-1).mean(1)
    big = gradients.mean(1).square().sum(-1)
    of_norms = noise_of_norms(small, big, small_batch=16, big_batch=64)
    assert within(of_norms.trace, TRACE) and within(of_norms.signal, SIGNAL)
    # What a batch of 16 shows is mostly noise: |G|^2 + tr C / 16 = 16.
    assert within(small, SIGNAL + TRACE / 16) and not within(small, SIGNAL)


def test_the_two_are_one_where_the_small_batch_is_one_sequence() -> None:
    gradients = planted(3, n=10)
    small, big = gradients.square().sum(-1).mean(1), gradients.mean(1).square().sum(-1)
    by_norms = noise_of_norms(small, big, small_batch=1, big_batch=10)
    directly = noise_of_gradients(gradients)
    assert torch.allclose(by_norms.trace, directly.trace, rtol=1e-10)
    assert torch.allclose(by_norms.signal, directly.signal, rtol=1e-10)


def test_by_hand() -> None:
    # Mean 2, variance ((-1)^2 + 1^2) / 1 = 2; |G|^2 = 4 - 2 / 2.
    noise = noise_of_gradients(torch.tensor([[1.0], [3.0]]))
    assert (float(noise.trace), float(noise.signal)) == (2.0, 3.0)
    assert float(noise.scale) == pytest.approx(2 / 3)
    assert {name: float(value) for name, value in noise_scale(torch.tensor([[1.0], [3.0]])).items()} == {
        "trace": 2.0, "signal": 3.0, "scale": pytest.approx(2 / 3)
    }  # fmt: skip


def test_micro_batches_count_as_units() -> None:
    gradients = planted(300, n=60)
    of_threes = noise_of_gradients(gradients.view(300, 20, 3, P).mean(2))
    assert within(of_threes.trace, TRACE / 3) and within(of_threes.signal, SIGNAL)


def test_scale_of_the_loss_changes_no_scale_of_the_noise() -> None:
    gradients = planted(n=200)
    assert float(noise_of_gradients(7 * gradients).scale) == pytest.approx(float(noise_of_gradients(gradients).scale))


def test_equal_gradients_have_no_noise_and_pure_noise_has_no_scale() -> None:
    same = noise_of_gradients(torch.ones(5, 3))
    assert same.trace == 0 and float(same.signal) == pytest.approx(3) and same.scale == 0
    opposite = noise_of_gradients(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert opposite.signal < 0 and opposite.scale.isnan()
    assert noise_of_gradients(torch.zeros(2, 2)).scale.isnan()


def test_smoothing_averages_the_pieces_not_their_ratio() -> None:
    steps = [noise_of_gradients(planted(n=16, seed=seed)) for seed in range(300)]
    averaged = smoothed(steps, decay=0.99)
    assert averaged.trace.shape == (300,)
    assert float(averaged.trace[-1]) == pytest.approx(TRACE, rel=0.05)
    assert float(averaged.scale[-1]) == pytest.approx(TRACE / SIGNAL, rel=0.4)
    assert averaged.trace[0] == pytest.approx(float(steps[0].trace))
    # By hand: (0.5 * 0.5 * 4 + 0.5 * 8) / (1 - 0.25).
    two = [Noise(torch.tensor(4.0), torch.tensor(1.0)), Noise(torch.tensor(8.0), torch.tensor(3.0))]
    assert smoothed(two, decay=0.5).trace.tolist() == pytest.approx([4.0, 5.0 / 0.75])
    assert smoothed(two, decay=0.0).scale.tolist() == pytest.approx([4.0, 8 / 3])


def test_layers_are_done_at_once() -> None:
    gradients = planted(2, 3, n=6)
    found = noise_scale(gradients)
    for name, value in found.items():
        assert value.shape == (2, 3)
        assert value[1, 2].item() == pytest.approx(noise_scale(gradients[1, 2])[name].item(), nan_ok=True)


def test_errors_say_what_is_needed() -> None:
    with pytest.raises(PicoLMError, match="two or more"):
        noise_of_gradients(torch.ones(1, 5))
    for small, big in [(8, 8), (16, 8), (0, 4)]:
        with pytest.raises(PicoLMError, match="smaller than"):
            noise_of_norms(torch.tensor(1.0), torch.tensor(1.0), small_batch=small, big_batch=big)
    with pytest.raises(PicoLMError, match="decay"):
        smoothed([])
