from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from picolm.config import schema
from picolm.model.initialization import build_model
from picolm.model.interface import LanguageModel
from picolm.seams import Objective, Term, View

CONFIG = schema.Model(vocab_size=20, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, d_ffn=12)


def view(rows: int, groups: list[int] | None = None, name: str = "a") -> View:
    numbers = torch.arange(rows)
    return View(
        name=name,
        tensors={"input_ids": numbers[:, None].expand(-1, 4) % 20, "other": numbers},
        units=np.arange(rows) + 1,
        groups=None if groups is None else np.array(groups),
    )


@given(st.integers(0, 30), st.integers(1, 40))
def test_cuts_put_together_are_the_view(rows: int, max_rows: int) -> None:
    whole = view(rows)
    parts = list(whole.cut(max_rows))
    assert sum(part.n_units for part in parts) == whole.n_units
    assert all(1 <= part.n_rows <= max_rows for part in parts)
    assert [n for part in parts for n in part.tensors["other"].tolist()] == list(range(rows))
    assert len(parts) == -(-rows // max_rows)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 12))
def test_groups_are_never_parted(sizes: list[int], max_rows: int) -> None:
    groups = [number for number, size in enumerate(sizes) for _ in range(size)]
    parts = list(view(len(groups), groups).cut(max_rows))
    owners = [set(part.groups.tolist()) for part in parts if part.groups is not None]
    assert [group for owner in owners for group in sorted(owner)] == list(range(len(sizes)))
    for part, owner in zip(parts, owners, strict=True):
        assert part.n_rows <= max_rows or len(owner) == 1


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        return (hidden * self.weight).sum()


def count_rows(model: LanguageModel, hidden: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    return hidden.sum() * 0 + len(hidden)


def test_an_objective_runs_the_terms_whose_view_is_present_and_no_others() -> None:
    head = Head()
    objective = Objective(build_model(CONFIG, 0), {"x": Term("a", count_rows), "y": Term("b", head, weight=0.5)})
    sums = objective(view(3))
    assert {name: value.item() for name, value in sums.items()} == {"x": 3.0}
    objective.total(sums, 3).backward()
    assert head.weight.grad is None
    assert "heads.y.weight" in dict(objective.named_parameters())
    objective.total(objective(view(3, name="b")), 3).backward()
    assert head.weight.grad is not None


def test_the_total_is_the_weighted_mean_over_units() -> None:
    objective = Objective(build_model(CONFIG, 0), {"x": Term("a", count_rows, 2.0), "y": Term("a", count_rows, 0.25)})
    assert float(objective.total(objective(view(6)), 3).detach()) == pytest.approx((2.0 + 0.25) * 6 / 3)


def test_the_model_runs_once_for_all_terms_of_a_view() -> None:
    model = build_model(CONFIG, 0)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    Objective(model, {"x": Term("a", count_rows), "y": Term("a", count_rows)})(view(2))
    assert len(calls) == 1
