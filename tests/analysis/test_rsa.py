import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from picolm.analysis.chance import permutation_null
from picolm.analysis.rsa import dissimilarities, rsa, rsa_null
from picolm.errors import PicoLMError


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ABOVE = np.triu_indices(8, 1)


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks by counting: how many are smaller, plus half of those that are equal."""
    return (values[:, None] > values).sum(1) + ((values[:, None] == values).sum(1) + 1) / 2


def test_dissimilarities_are_numpys() -> None:
    rows = noise(0, 9, 5)
    np.testing.assert_allclose(dissimilarities(rows).numpy(), 1 - np.corrcoef(rows.numpy()), atol=1e-12)
    differences = np.linalg.norm(rows.numpy()[:, None] - rows.numpy(), axis=-1)
    np.testing.assert_allclose(dissimilarities(rows + 1e4, distance="euclidean").numpy(), differences, atol=1e-6)


@given(st.integers(3, 8), st.integers(0, 200))
def test_equal_dissimilarities_share_their_mean_rank(n: int, seed: int) -> None:
    # Few whole numbers: many pairs are equally far.
    x, y = ((3 * noise(seed + place, n, 2)).round() for place in (0, 1))
    above = np.triu_indices(n, 1)
    ranks = [mean_ranks((torch.cdist(rows, rows).square().round()).numpy()[above]) for rows in (x, y)]
    found = rsa(x, y, distance="euclidean").item()
    if min(np.ptp(one) for one in ranks) == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(np.corrcoef(*ranks)[0, 1], rel=1e-9, abs=1e-12)


def test_monotone_distances_and_similar_activations_are_alike() -> None:
    x = noise(0, 25, 6)
    assert rsa(x, 3 * x + 7, distance="euclidean").item() == pytest.approx(1)
    assert rsa(x, 3 * x + 7).item() == pytest.approx(1)
    assert abs(rsa(x, noise(1, 25, 6)).item()) < 0.2


def test_the_quick_null_is_the_plain_one() -> None:
    x, y = noise(0, 2, 12, 4), noise(1, 2, 12, 3)
    quick = rsa_null(x, y, distance="euclidean", permutations=6, seed=2)
    plain = permutation_null(lambda a, b: rsa(a, b, distance="euclidean"), x, y, permutations=6, seed=2)
    torch.testing.assert_close(quick, plain, rtol=1e-9, atol=1e-12)


def test_permuting_rows_gives_a_wider_null_than_permuting_pairs_would() -> None:
    x, y = noise(0, 40, 2), noise(1, 40, 2)
    null = rsa_null(x, y, distance="euclidean", permutations=200)
    pairs = 40 * 39 / 2
    assert abs(null.mean().item()) < 0.02 and null.std().item() > 1.3 / pairs**0.5


def test_repeated_rows_are_exactly_alike_and_tie() -> None:
    x, y = 100 * noise(0, 8, 30) + 5, noise(1, 8, 4)
    x[3] = x[6] = x[0]
    assert (dissimilarities(x, distance="euclidean")[0, [3, 6]] == 0).all()
    ranks = [
        mean_ranks(torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").numpy()[ABOVE])
        for rows in (x, y)
    ]
    assert rsa(x, y, distance="euclidean").item() == pytest.approx(np.corrcoef(*ranks)[0, 1], rel=1e-9)


def test_rows_without_a_correlation_have_no_value() -> None:
    x = noise(0, 6, 3)
    flat = x.clone()
    flat[2] = 0.1
    assert rsa(flat, x).isnan() and not rsa(flat, x, distance="euclidean").isnan()
    assert dissimilarities(flat)[2].isnan().all() and dissimilarities(flat)[0, 1].isfinite()
    assert rsa(torch.eye(4), noise(0, 4, 2), distance="euclidean").isnan()
    with pytest.raises(PicoLMError, match=r"of 3 rows or more, not \[2, 3\]"):
        rsa(x[:2], x[:2])
