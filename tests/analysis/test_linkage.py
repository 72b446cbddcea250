"""Linkage by permutation: closed forms, all orders counted by hand, no more false alarms than promised, and power."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from picolm.analysis.linkage import linkage
from picolm.analysis.settling import matthews, spearman
from picolm.errors import PicoLMError


def test_one_model_is_spearman_with_the_share_of_all_orders() -> None:
    x, y = [3.0, 1.0, 2.0, 5.0, 4.0], [0.1, 0.7, 0.5, 0.2, 0.5]
    found = linkage([([x], [y])])
    assert found.value == pytest.approx(spearman(x, y)) and (found.orders, found.exact) == (120, True)
    counted = [abs(stats.spearmanr(x, order).statistic) for order in permutations(y)]
    assert found.p_value == pytest.approx(np.mean(np.array(counted) >= abs(found.value or 0) - 1e-12))


def test_a_perfect_order_has_the_two_extreme_orders_of_all() -> None:
    rising = np.arange(6.0)
    found = linkage([([rising], [-rising])])
    assert (found.value, found.p_value) == (pytest.approx(-1.0), pytest.approx(2 / 720))
    # Seeds that share their depth are one profile, not three: the p value stays what it is.
    thrice = linkage([([rising] * 3, [-rising] * 3)])
    assert (thrice.value, thrice.p_value) == (pytest.approx(-1.0), pytest.approx(2 / 720))
    # Sizes have profiles of their own: both must be extreme together.
    sizes = linkage([([rising[:4]], [rising[:4]]), ([rising[:4]], [rising[:4]])])
    assert sizes.p_value == pytest.approx(2 / 24**2)


def test_over_seeds_equals_a_count_by_hand_and_does_not_see_the_depth() -> None:
    draw = np.random.default_rng(4)
    cells = [(draw.normal(size=(3, 4)), draw.normal(size=(3, 4))) for _ in range(2)]
    found = linkage(cells, over="seeds", ranks=False)

    def pooled(orders: tuple[tuple[int, ...], ...]) -> float:
        products, xs, ys = 0.0, 0.0, 0.0
        for (x, y), order in zip(cells, orders, strict=True):
            x, y = x - x.mean(axis=0), (y - y.mean(axis=0))[list(order)]
            products, xs, ys = products + (x * y).sum(), xs + (x * x).sum(), ys + (y * y).sum()
        return float(products / np.sqrt(xs * ys))

    every = [pooled(orders) for orders in product(permutations(range(3)), repeat=2)]
    assert found.value == pytest.approx(every[0]) and found.orders == 36
    assert found.p_value == pytest.approx(np.mean(np.abs(every) >= abs(every[0]) - 1e-12))
    depth = np.array([9.0, -4.0, 100.0, 7.0])
    moved = linkage([(x + depth, y - 3 * depth) for x, y in cells], over="seeds", ranks=False)
    assert moved.value == pytest.approx(found.value) and moved.p_value == found.p_value


def test_of_yes_and_no_it_is_matthews_and_ranks_make_no_difference() -> None:
    early, high = [True, True, True, False, False], [True, True, False, False, True]
    cell = [([early], [high])]
    assert linkage(cell, ranks=False).value == pytest.approx(matthews(early, high))
    assert linkage(cell).p_value == linkage(cell, ranks=False).p_value


def test_layers_that_never_settle_are_last_and_monotone_maps_change_nothing() -> None:
    settled, rank = np.array([[10.0, 300.0, np.inf, 20.0, np.inf]]), np.array([[0.9, 0.7, 0.2, 0.8, 0.3]])
    found = linkage([(settled, rank)])
    assert linkage([(np.where(np.isinf(settled), 1e6, settled) ** 0.5, np.exp(rank))]) == found
    with pytest.raises(PicoLMError, match="can be ranked but not averaged"):
        linkage([(settled, rank)], ranks=False)


@pytest.mark.parametrize("over", ["layers", "seeds"])
def test_without_a_link_few_p_values_are_small(over: str) -> None:
    draw = np.random.default_rng(11)
    p_values = []
    for _ in range(300):
        # Seeds of a size share a profile over depth, which neither property owes to the other.
        cells = [
            tuple(draw.normal(size=5) * (over == "layers") + draw.normal(size=(3, 5)) for _ in range(2))
            for _ in range(3)
        ]
        found = linkage(cells, over=over, most=400)  # type: ignore[arg-type]
        assert found.p_value is not None
        p_values.append(found.p_value)
    # Three standard errors above what is promised.
    for level in (0.05, 0.2):
        assert np.mean(np.array(p_values) <= level) <= level + 3 * np.sqrt(level * (1 - level) / 300)


def test_a_sample_agrees_with_all_orders_and_is_the_same_each_time() -> None:
    draw = np.random.default_rng(2)
    x = draw.normal(size=(2, 6))
    cells = [(x, 0.7 * x + draw.normal(size=(2, 6)))]
    every, some = linkage(cells), linkage(cells, most=700)
    assert every.exact and not some.exact and some.orders == 700 and some == linkage(cells, most=700)
    assert some.value == every.value and every.p_value is not None
    assert some.p_value == pytest.approx(every.p_value, abs=4 * np.sqrt(every.p_value / 700) + 2 / 700)


def test_a_link_is_found_and_long_models_are_sampled() -> None:
    draw = np.random.default_rng(5)
    rank = draw.normal(size=(3, 24))
    found = linkage([(rank + 0.3 * draw.normal(size=(3, 24)), rank)], most=999)
    assert found.value is not None and found.value > 0.8 and found.p_value == pytest.approx(1 / 1000)
    assert not found.exact


def test_what_does_not_vary_has_no_link_and_mistakes_are_named() -> None:
    assert linkage([([[1.0, 1.0]], [[1.0, 2.0]])]).value is None
    assert linkage([([[1.0, 2.0]], [[1.0, 2.0]])], over="seeds").value is None
    with pytest.raises(PicoLMError, match="not \\(1, 2\\) and \\(1, 3\\)"):
        linkage([([[1.0, 2.0]], [[1.0, 2.0, 3.0]])])
    with pytest.raises(PicoLMError, match="not known"):
        linkage([([[1.0, np.nan]], [[1.0, 2.0]])])
