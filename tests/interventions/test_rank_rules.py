"""Ranks: how they are measured, and how a budget is shared out."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from picolm.analysis import rank as analysis
from picolm.interventions.ranks import Budget, effective_rank, rank_of_change, singular_values


def test_effective_rank_is_that_of_the_analysis() -> None:
    torch.manual_seed(0)
    for matrix in (torch.randn(12, 20), torch.eye(9), torch.randn(8, 2) @ torch.randn(2, 15), torch.ones(3, 4)):
        ours = effective_rank(singular_values(matrix))
        assert ours == pytest.approx(float(analysis.effective_rank(matrix)), rel=1e-9)
    assert effective_rank(singular_values(torch.zeros(3, 4))) == 0.0
    assert effective_rank(singular_values(torch.full((3, 4), torch.nan))) == 0.0


@given(st.integers(1, 12), st.sampled_from([1e-3, 1.0, 100.0]))
def test_the_rank_of_a_change_is_seen_through_rounding(rank: int, size: float) -> None:
    generator = torch.Generator().manual_seed(rank)
    start = torch.empty(30, 40).normal_(generator=generator)
    factors = torch.empty(30, rank).normal_(generator=generator), torch.empty(rank, 40).normal_(generator=generator)
    now = start + size * factors[0] @ factors[1]
    assert rank_of_change(singular_values(now - start), now) == rank
    assert rank_of_change(singular_values(start - start), start) == 0


@given(
    st.lists(st.tuples(st.integers(1, 9), st.floats(0, 8), st.integers(1, 9)), min_size=1, max_size=6),
    st.integers(0, 120),
)
def test_a_budget_is_spent_and_not_overspent(layers: list[tuple[int, float, int]], parameters: int) -> None:
    costs = {str(number): cost for number, (cost, _, _) in enumerate(layers)}
    used = {str(number): used for number, (_, used, _) in enumerate(layers)}
    highest = {str(number): highest for number, (_, _, highest) in enumerate(layers)}
    ranks = Budget(parameters, costs, 1, highest).share_out(used)
    total = sum(costs[name] * rank for name, rank in ranks.items())
    assert total <= max(parameters, sum(costs.values()))
    for name, rank in ranks.items():
        assert 1 <= rank <= highest[name]
        assert rank == highest[name] or total + costs[name] > parameters


@given(st.lists(st.floats(0.1, 8), min_size=2, max_size=4), st.integers(4, 14))
def test_at_equal_costs_the_shares_are_the_fairest_there_are(used: list[float], parameters: int) -> None:
    """Of all ways to share out as much, none leaves the worst served better off: the least rank / used is largest."""
    names = [str(number) for number in range(len(used))]
    wanted = dict(zip(names, used, strict=True))
    budget = Budget(parameters, dict.fromkeys(names, 1), 1, dict.fromkeys(names, parameters))
    ranks = budget.share_out(wanted)
    total = sum(ranks.values())
    assert total == parameters

    def next_wants(given: dict[str, int]) -> float:
        return max(wanted[name] / (rank + 1) for name, rank in given.items())

    every = itertools.product(range(1, parameters + 1), repeat=len(names))
    others = [dict(zip(names, one, strict=True)) for one in every if sum(one) == total]
    assert next_wants(ranks) <= min(map(next_wants, others)) + 1e-12
