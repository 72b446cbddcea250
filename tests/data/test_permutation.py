from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picolm.data.permutation import KeyedPermutation

keys = st.one_of(st.integers(0, 2**63), st.text(max_size=5))


@given(st.integers(1, 2000), keys)
def test_it_is_a_bijection(n: int, key: str | int) -> None:
    images = KeyedPermutation(n, key)(np.arange(n))
    assert images.dtype == np.int64
    assert sorted(images.tolist()) == list(range(n))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 15, 16, 17, 255, 256, 257, 1023, 1024, 1025, 65_537])
def test_it_is_a_bijection_at_the_edges_of_its_domain(n: int) -> None:
    assert np.array_equal(np.sort(KeyedPermutation(n, "edge")(np.arange(n))), np.arange(n))


@given(st.integers(1, 2**62), keys, st.lists(st.integers(0, 2**62), min_size=1, max_size=20, unique=True))
def test_points_of_any_size_map_into_the_range_and_apart(n: int, key: str | int, points: list[int]) -> None:
    positions = np.unique(np.array(points) % n)
    images = KeyedPermutation(n, key)(positions)
    assert len(set(images.tolist())) == len(positions)
    assert images.min() >= 0
    assert images.max() < n
    alone = [int(KeyedPermutation(n, key)(np.array([position]))[0]) for position in positions]
    assert alone == images.tolist()


def test_different_keys_differ() -> None:
    images = [tuple(KeyedPermutation(1000, *key)(np.arange(1000))) for key in ((0,), (1,), ("0",), (0, 0), ("a", 1))]
    assert len(set(images)) == len(images)
    # Two independent permutations agree in one position on average.
    assert sum(a == b for a, b in zip(images[0], images[1], strict=True)) < 8


@pytest.mark.parametrize(("n", "draws"), [(2, 300), (3, 600), (4, 1200), (5, 2400)])
def test_all_orders_of_a_few_are_equally_likely(n: int, draws: int) -> None:
    counts = Counter(tuple(KeyedPermutation(n, key)(np.arange(n)).tolist()) for key in range(draws))
    orders = list(permutations(range(n)))
    expected = draws / len(orders)
    chi_square = sum((counts[order] - expected) ** 2 / expected for order in orders)
    freedom = len(orders) - 1
    assert chi_square < freedom + 4.5 * (2 * freedom) ** 0.5 + 4


@pytest.mark.parametrize("n", [100, 1000])
def test_each_position_lands_anywhere(n: int) -> None:
    bins = np.zeros((10, 10))
    for key in range(400):
        images = KeyedPermutation(n, "bins", key)(np.arange(n))
        np.add.at(bins, (np.arange(n) * 10 // n, images * 10 // n), 1)
    chi_square = ((bins - bins.mean()) ** 2 / bins.mean()).sum()
    assert chi_square < 81 + 5 * (2 * 81) ** 0.5


def test_shapes_and_limits() -> None:
    permutation = KeyedPermutation(12, "x")
    assert permutation(np.arange(12).reshape(3, 4)).shape == (3, 4)
    assert permutation(np.array([], dtype=np.int64)).shape == (0,)
    for outside in (-1, 12):
        with pytest.raises(IndexError, match=r"range\(12\)"):
            permutation(np.array([outside]))
    with pytest.raises(ValueError, match="permutation of 0"):
        KeyedPermutation(0, "x")


@settings(deadline=None)
@given(st.one_of(st.integers(1, 300), st.integers(1, 2**62)), st.integers(0, 5), st.data())
def test_the_inverse_leads_back(n: int, key: int, data: st.DataObject) -> None:
    permutation = KeyedPermutation(n, key, "x")
    positions = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=20)), dtype=np.int64)
    np.testing.assert_array_equal(permutation.inverse(permutation(positions)), positions)
    np.testing.assert_array_equal(permutation(permutation.inverse(positions)), positions)
    with pytest.raises(IndexError):
        permutation.inverse(np.array([n]))
