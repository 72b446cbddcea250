"""Anisotropy against brute force, closed forms, the paper's own steps and its authors' library."""

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from picolm.analysis.anisotropy import (
    centred_mean_cosine,
    cosine_without_outliers,
    iso_score,
    mean_cosine,
    sampled_cosine,
)
from picolm.errors import PicoLMError

from .fixtures.make_geometry import cloud

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "geometry.json").read_text(encoding="utf-8"))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def brute_force(rows: Tensor) -> float:
    pairs = [torch.cosine_similarity(rows[i], rows[j], dim=0) for i, j in combinations(range(len(rows)), 2)]
    return float(torch.stack(pairs).mean())


def orthogonal(d: int, seed: int) -> Tensor:
    return torch.linalg.qr(normal(d, d, seed=seed))[0]


@given(st.integers(2, 9), st.integers(1, 7), st.integers(0, 10_000))
def test_the_exact_mean_is_that_of_all_pairs(n: int, d: int, seed: int) -> None:
    rows = normal(n, d, seed=seed) + 0.5
    assert float(mean_cosine(rows)) == pytest.approx(brute_force(rows), abs=1e-12)
    assert float(centred_mean_cosine(rows)) == pytest.approx(brute_force(rows - rows.mean(0)), abs=1e-9)


def test_closed_forms_of_the_mean_cosine() -> None:
    assert float(mean_cosine(torch.ones(50, 8))) == pytest.approx(1.0, abs=1e-14)
    assert float(mean_cosine(torch.eye(5))) == 0.0
    # As far apart as n directions can be.
    assert float(centred_mean_cosine(torch.eye(5))) == pytest.approx(-1 / 4, abs=1e-14)
    assert float(mean_cosine(torch.tensor([[1.0, 2.0], [-2.0, -4.0]]))) == pytest.approx(-1.0)
    # Independent directions in 256 dimensions, 1000 of them: 0 with a standard error of 1 / sqrt(256 * 499500).
    assert float(mean_cosine(normal(1000, 256))) == pytest.approx(0.0, abs=5 / math.sqrt(256 * 499_500))


def test_a_common_offset_raises_it_and_centring_takes_it_away() -> None:
    rows = normal(400, 64)
    shifted = rows + 2.0
    # E cos of two draws around an offset c 1: about c^2 d / (c^2 d + d).
    assert float(mean_cosine(shifted)) == pytest.approx(4 / 5, abs=0.01)
    assert float(centred_mean_cosine(shifted)) == pytest.approx(float(centred_mean_cosine(rows)), abs=1e-12)


def test_outlier_dimensions_are_those_that_contribute_most() -> None:
    rows = normal(300, 40)
    loud = rows.clone()
    loud[:, [3, 17, 30]] += torch.tensor([30.0, -40.0, 25.0], dtype=torch.float64)
    assert float(mean_cosine(loud)) > 0.95
    quiet = [i for i in range(40) if i not in (3, 17, 30)]
    assert float(cosine_without_outliers(loud)) == pytest.approx(float(mean_cosine(rows[:, quiet])), abs=1e-12)
    assert float(cosine_without_outliers(loud, outliers=0)) == pytest.approx(float(mean_cosine(loud)), abs=1e-14)
    assert float(cosine_without_outliers(loud, outliers=2)) > 0.9


def test_layers_are_done_at_once() -> None:
    stack = normal(2, 3, 20, 6) + 0.3
    for function in (mean_cosine, centred_mean_cosine, cosine_without_outliers, iso_score):
        found = function(stack)
        assert found.shape == (2, 3) and found.dtype == torch.float64
        for i, j in np.ndindex(2, 3):
            assert float(found[i, j]) == pytest.approx(float(function(stack[i, j])), abs=1e-13)


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_invariances(seed: int, scale: float) -> None:
    rows = normal(12, 5, seed=seed) + 0.4
    turned = scale * rows @ orthogonal(5, seed + 1)
    assert float(mean_cosine(turned)) == pytest.approx(float(mean_cosine(rows)), abs=1e-12)
    assert float(centred_mean_cosine(turned)) == pytest.approx(float(centred_mean_cosine(rows)), abs=1e-10)
    assert float(iso_score(turned + 7.0)) == pytest.approx(float(iso_score(rows)), abs=1e-8)
    # A direction of its own for each row's scale changes no cosine.
    scales = torch.rand(12, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1
    assert float(mean_cosine(scales * rows)) == pytest.approx(float(mean_cosine(rows)), abs=1e-12)


def iso_score_by_the_paper(rows: Tensor) -> float:
    """Algorithm 1 of Rudman et al. 2022, step by step."""
    d = rows.shape[1]
    variances = torch.linalg.eigvalsh(torch.cov(rows.T))
    normalised = math.sqrt(d) * variances / variances.norm()
    defect = (normalised - 1).norm() / math.sqrt(2 * (d - math.sqrt(d)))
    dimensions_used = (d - defect**2 * (d - math.sqrt(d))) ** 2 / d**2
    return float((d * dimensions_used - 1) / (d - 1))


@pytest.mark.parametrize(("n", "d"), [(200, 6), (10, 30), (31, 31)])
def test_iso_score_is_the_papers_algorithm(n: int, d: int) -> None:
    rows = normal(n, d) * torch.linspace(0.2, 3, d, dtype=torch.float64) + 1
    assert float(iso_score(rows)) == pytest.approx(iso_score_by_the_paper(rows), abs=1e-12)


def test_iso_score_agrees_with_its_authors_library() -> None:
    assert len(FIXTURE["iso_score"]) == 3
    for case in FIXTURE["iso_score"]:
        rows = torch.from_numpy(cloud(case["seed"], case["n"], case["dimension"], case["width"]))
        # The library keeps sqrt(n) in float32.
        assert float(iso_score(rows)) == pytest.approx(case["score"], abs=1e-6)


@pytest.mark.parametrize("used", [1, 2, 5, 8])
def test_iso_score_is_the_share_of_dimensions_in_use(used: int) -> None:
    # Signs of all kinds: exactly equal variances, exactly uncorrelated.
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * used).reshape(-1, used)
    rows = torch.nn.functional.pad(signs, (0, 8 - used)).double()
    assert float(iso_score(rows)) == pytest.approx((used - 1) / 7, abs=1e-12)
    assert float(iso_score(rows @ orthogonal(8, 3))) == pytest.approx((used - 1) / 7, abs=1e-12)


def test_fewer_rows_than_dimensions_bound_iso_score() -> None:
    # Rows as far apart as they can be have n - 1 equal variances.
    assert float(iso_score(torch.eye(6, 40))) == pytest.approx((5 - 1) / 39, abs=1e-12)


def test_what_is_not_defined_is_nan() -> None:
    rows = normal(6, 4)
    with_zero, with_nan, with_inf = rows.clone(), rows.clone(), rows.clone()
    with_zero[2], with_nan[0, 1], with_inf[0, 1] = 0.0, math.nan, math.inf
    assert mean_cosine(with_zero).isnan()
    for bad in (with_nan, with_inf, torch.zeros(6, 4)):
        for function in (mean_cosine, centred_mean_cosine, cosine_without_outliers, iso_score):
            assert function(bad).isnan(), function
    # 0.1 is no binary number, so the mean of equal rows is off by rounding: no direction, no variance.
    assert centred_mean_cosine(torch.full((7, 3), 0.1)).isnan() and iso_score(torch.full((7, 3), 0.1)).isnan()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_scales_neither_vanish_nor_overflow(scale: float) -> None:
    rows = normal(30, 5) + 0.4
    for function in (mean_cosine, centred_mean_cosine, cosine_without_outliers, iso_score):
        assert float(function(scale * rows)) == pytest.approx(float(function(rows)), abs=1e-10), function


def test_half_precision_is_read_in_float64() -> None:
    rows = (normal(50, 8) + 1).bfloat16()
    assert torch.equal(mean_cosine(rows), mean_cosine(rows.double()))


def test_sampled_pairs_agree_with_all_pairs_within_their_error() -> None:
    sequences = normal(60, 16, 32) + 0.5
    found = sampled_cosine(sequences, pairs=4000, seed=1)
    truth = float(mean_cosine(sequences.flatten(0, 1)))
    assert abs(float(found["value"]) - truth) < 4 * float(found["se"])
    assert 0 < float(found["se"]) < 0.01


def test_sampled_pairs_are_of_two_sequences_and_the_same_in_all_layers() -> None:
    # Rows of one sequence point one way, those of the two sequences opposite ways.
    one = torch.tensor([[1.0, 2.0]]).expand(9, 2)
    sequences = torch.stack([one, -one])
    assert float(sampled_cosine(sequences)["value"]) == pytest.approx(-1.0)
    layers = torch.stack([normal(5, 4, 3), normal(5, 4, 3)])
    found = sampled_cosine(layers, seed=3)["value"]
    assert found[0] == found[1] and found[0] != sampled_cosine(layers, seed=4)["value"][0]


def test_errors_say_what_is_needed() -> None:
    for function in (mean_cosine, centred_mean_cosine, cosine_without_outliers, iso_score):
        for shape in [(4,), (1, 4), (3, 0)]:
            with pytest.raises(PicoLMError, match="2 rows or more"):
                function(torch.ones(shape))
    with pytest.raises(PicoLMError, match="between 0 and 3"):
        cosine_without_outliers(torch.ones(5, 4), outliers=4)
    with pytest.raises(PicoLMError, match="two dimensions"):
        iso_score(torch.ones(5, 1))
    with pytest.raises(PicoLMError, match="two sequences"):
        sampled_cosine(torch.ones(1, 5, 4))
    with pytest.raises(PicoLMError, match="two pairs"):
        sampled_cosine(torch.ones(2, 5, 4), pairs=1)
