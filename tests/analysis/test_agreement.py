"""Divergence between models' predictions: closed forms, PyTorch's own, brute force, and edges."""

import math
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from picolm.analysis.agreement import mean_divergence, token_divergence
from picolm.errors import PicoLMError


def predictions(*shape: int, seed: int = 0) -> Tensor:
    logits = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (2 * logits).log_softmax(-1)


def test_closed_forms() -> None:
    fair, biased = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
    assert float(token_divergence(fair, biased)) == pytest.approx(math.log(0.5) - math.log(0.9 * 0.1) / 2, rel=1e-6)
    assert token_divergence(fair, fair) == 0
    # From a sure prediction to a uniform one: ln V.
    sure = torch.tensor([1.0, 0.0, 0.0, 0.0]).log()
    uniform = torch.full((4,), 0.25).log()
    assert float(token_divergence(sure, uniform)) == pytest.approx(math.log(4))
    assert token_divergence(uniform, sure) == math.inf and token_divergence(sure, sure) == 0


@given(st.integers(0, 10_000), st.integers(2, 9))
def test_it_is_pytorchs_and_never_negative(seed: int, vocabulary: int) -> None:
    p, q = predictions(3, 4, vocabulary, seed=seed), predictions(3, 4, vocabulary, seed=seed + 1)
    found = token_divergence(p, q)
    expected = F.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    assert found.shape == (3, 4) and torch.allclose(found, expected, atol=1e-12)
    assert (found >= 0).all()


def test_half_precision_is_summed_in_float64() -> None:
    p, q = predictions(50, 300).float(), predictions(50, 300, seed=1).float()
    assert torch.equal(token_divergence(p, q), token_divergence(p.double(), q.double()))


def test_what_rounding_takes_from_a_sum_makes_no_divergence_negative() -> None:
    p = predictions(20, 9)
    assert (token_divergence(p, p + 1e-5) == 0).all()


def test_the_mean_over_runs_is_over_all_ordered_pairs() -> None:
    runs = [predictions(5, 7, seed=seed) for seed in range(4)]
    expected = torch.stack([token_divergence(p, q) for p, q in permutations(runs, 2)]).mean(0)
    assert torch.allclose(mean_divergence(runs), expected, atol=1e-13)
    assert torch.allclose(mean_divergence(runs[::-1]), expected, atol=1e-13)
    assert (mean_divergence([runs[0]] * 3) == 0).all()
    with_certainty = [torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.5, 0.5]]).log()]
    assert mean_divergence(with_certainty)[0] == math.inf


def test_errors_say_what_is_needed() -> None:
    with pytest.raises(PicoLMError, match="log_softmax"):
        token_divergence(torch.zeros(3, 4), predictions(3, 4))
    with pytest.raises(PicoLMError, match=r"not \[3, 4\] and \[3, 5\]"):
        token_divergence(predictions(3, 4), predictions(3, 5))
    with pytest.raises(PicoLMError, match="two runs"):
        mean_divergence([predictions(3, 4)])
    broken = predictions(2, 4)
    broken[0, 0] = math.nan
    assert token_divergence(broken, predictions(2, 4)).isnan().tolist() == [True, False]
