"""Ranks: how they are measured, and how a budget is shared out."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from picolm.analysis import rank as analysis
from picolm.interventions.ranks import Budget, effective_rank, rank_of_change, singular_values
from picolm.model.adapters import AdaptedLinear, first_a


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


def cumulative_ranks(begin: str) -> list[float]:
    """Effective rank of W - W_start after each of five cycles on a full-rank teacher."""
    torch.manual_seed(0)
    teacher = torch.randn(24, 32)
    layer = AdaptedLinear(nn.Linear(32, 24, bias=False), 3, scale=2.0)
    start, found = layer.weight.detach().clone(), []
    layer.begin(first_a("kaiming", layer, torch.Generator().manual_seed(0)))
    for cycle in range(1, 6):
        optimizer = torch.optim.AdamW([layer.a, layer.b], lr=0.003, weight_decay=0.0)
        for _ in range(20):
            x = torch.randn(64, 32)
            (layer(x) - x @ teacher.mT).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        old = layer.a.detach().clone(), layer.b.detach().clone()
        layer.merge(layer.delta())
        fresh = first_a("kaiming", layer, torch.Generator().manual_seed(cycle))
        layer.begin(old[0] if begin == "sham" else fresh)
        if begin == "undone":
            with torch.no_grad():
                layer.a.copy_(old[0])
                layer.b.copy_(old[1])
        found.append(effective_rank(singular_values(layer.weight.detach() - start)))
    return found


def test_the_rank_of_all_change_grows_where_adapters_begin_anew_and_not_where_that_is_undone() -> None:
    # In cycles so short that A hardly turns by itself; in long ones it finds what is missing in either case.
    fresh, sham, undone = cumulative_ranks("fresh"), cumulative_ranks("sham"), cumulative_ranks("undone")
    assert fresh == sorted(fresh) and fresh[0] <= 3.0 and fresh[-1] > 10
    assert max(*sham, *undone) < 4
