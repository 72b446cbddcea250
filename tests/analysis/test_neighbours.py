import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from picolm.analysis.cka import debiased_cka
from picolm.analysis.neighbours import cknna, mutual_knn
from picolm.errors import PicoLMError


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(4, 15), st.integers(0, 200), st.data())
def test_shared_neighbours_are_counted(n: int, seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n - 1))
    x, y = noise(seed, n, 5), noise(seed + 1, n, 3)
    shared = 0
    for row in range(n):
        near = []
        for rows in (x, y):
            cosines = torch.nn.functional.cosine_similarity(rows[row], rows, dim=-1).tolist()
            near.append(set(sorted((one for one in range(n) if one != row), key=lambda one: -cosines[one])[:k]))
        shared += len(near[0] & near[1])
    assert mutual_knn(x, y, k=k).item() == pytest.approx(shared / (n * k))


def test_unrelated_activations_share_what_chance_gives() -> None:
    found = mutual_knn(noise(0, 20, 100, 30), noise(1, 20, 100, 30))
    assert found.mean().item() == pytest.approx(10 / 99, rel=0.05)


def test_lengths_and_rotations_of_rows_change_nothing() -> None:
    x, y = noise(0, 40, 6), noise(1, 40, 6)
    turned = x @ torch.linalg.qr(noise(2, 6, 6)).Q * torch.rand(40, 1, dtype=torch.float64).add(0.1)
    for function in (mutual_knn, cknna):
        assert function(turned, y).item() == pytest.approx(function(x, y).item(), rel=1e-9)
        assert function(turned, x).item() == pytest.approx(1)


def test_cknna_of_all_neighbours_is_debiased_cka_of_unit_rows() -> None:
    x, y = noise(0, 30, 6), noise(1, 30, 4)
    y[:, :3] += x[:, :3]
    unit = [torch.nn.functional.normalize(rows, dim=-1) for rows in (x, y)]
    assert cknna(x, y, k=29).item() == pytest.approx(debiased_cka(*unit).item(), rel=1e-9)


def test_zero_rows_have_no_neighbours() -> None:
    x = noise(0, 20, 3)
    x[4] = 0
    assert mutual_knn(x, noise(1, 20, 3)).isnan() and cknna(noise(1, 20, 3), x).isnan()


def test_more_neighbours_than_rows_are_refused() -> None:
    with pytest.raises(PicoLMError, match="of 10 rows each has 9 neighbours, so k cannot be 10"):
        mutual_knn(noise(0, 10, 2), noise(1, 10, 2))
    with pytest.raises(PicoLMError, match="two neighbours or more, not 1"):
        cknna(noise(0, 10, 2), noise(1, 10, 2), k=1)
