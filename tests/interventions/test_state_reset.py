"""What a reset leaves of Adam's moments, and how far the updates after it move an element."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from picolm.errors import PicoLMError
from picolm.interventions.state_reset import StateReset
from picolm.randomness import derive_seed


def rng(*key: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(0, *key))


def reset(kind: Any = "random", ratio: float = 0.9, *, shared: bool = True, restart_count: bool = False) -> StateReset:
    return StateReset(kind, ratio, shared, restart_count, rng)


def moments(*shape: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator).square() + 0.1
    return {"step": torch.tensor(7.0), "exp_avg": first, "exp_avg_sq": second}


@pytest.mark.parametrize("ratio", [0.1, 0.9, 0.999])
@pytest.mark.parametrize("shared", [True, False])
def test_a_random_mask_has_the_size_that_was_asked_for(ratio: float, shared: bool) -> None:
    state, asked = moments(200, 300), reset("random", ratio, shared=shared)
    kept = asked("a", state)
    for key in ("exp_avg", "exp_avg_sq"):
        gone = kept[key] == 0
        assert float(gone.float().mean()) == pytest.approx(ratio, abs=5 * math.sqrt(ratio * (1 - ratio) / 60_000))
        assert torch.equal(kept[key][~gone], state[key][~gone])
    assert torch.equal(kept["exp_avg"] == 0, kept["exp_avg_sq"] == 0) == shared
    assert asked.fraction == pytest.approx(float((kept["exp_avg"] == 0).float().mean()), abs=0.01)
    assert float(kept["step"]) == 7.0


@pytest.mark.parametrize("ratio", [0.0, 0.33, 0.9, 1.0])
@pytest.mark.parametrize("values", ["drawn", "equal", "zero", "mostly zero"])
def test_a_magnitude_mask_is_exact_also_among_equals(ratio: float, values: str) -> None:
    state = moments(17, 31)
    if values != "drawn":
        state["exp_avg"] = torch.full((17, 31), float(values == "equal"))
        state["exp_avg"][0, :3] = 1.0
    asked = reset("magnitude", ratio)
    kept = asked("a", state)
    # The second moment is nowhere zero of itself: it shows the mask.
    gone = kept["exp_avg_sq"] == 0
    assert int(gone.sum()) == math.floor(ratio * 17 * 31)
    sizes = state["exp_avg"].abs()
    if 0 < ratio < 1:
        assert float(sizes[gone].max()) <= float(sizes[~gone].min())
    apart = reset("magnitude", ratio, shared=False)("a", state)
    assert int((apart["exp_avg_sq"] == 0).sum()) == math.floor(ratio * 17 * 31)


@pytest.mark.slow
def test_a_magnitude_mask_has_no_largest_tensor() -> None:
    """`torch.quantile` refuses more than 16 million elements."""
    state = {"step": torch.tensor(1.0), "exp_avg": torch.arange(1.0, 2**24 + 10), "exp_avg_sq": torch.ones(2**24 + 9)}
    kept = reset("magnitude", 0.5)("a", state)
    assert int((kept["exp_avg"] == 0).sum()) == (2**24 + 9) // 2


def test_counts_and_nothing_kept() -> None:
    assert reset("zero", restart_count=True)("a", moments(3, 4)) == {}
    kept = reset("zero")("a", moments(3, 4))
    assert not kept["exp_avg"].any() and not kept["exp_avg_sq"].any() and float(kept["step"]) == 7.0
    assert float(reset("random", restart_count=True)("a", moments(3, 4))["step"]) == 0.0
    state = moments(3, 4)
    assert all(torch.equal(value, state[key]) for key, value in reset("keep")("a", state).items())


@pytest.mark.parametrize(
    "state",
    [
        {"step": torch.tensor(1.0), "momentum": torch.ones(3)},
        {"exp_avg": torch.ones(3, dtype=torch.uint8), "exp_avg_sq": torch.ones(3, dtype=torch.uint8)},
    ],
    ids=["another optimizer", "8 bits"],
)
def test_other_states_are_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(PicoLMError, match="only Adam's moments can be reset"):
        reset()("layers.0.a", state)


def moved(asked: StateReset, gradients: Any, *, betas: tuple[float, float] = (0.9, 0.999)) -> list[Tensor]:
    """How far each element is from its first value, in learning rates, in the updates after a reset."""
    parameter = nn.Parameter(torch.zeros(40, 50))
    optimizer = torch.optim.AdamW([parameter], lr=1.0, betas=betas, eps=1e-8, weight_decay=0.0)
    generator = torch.Generator().manual_seed(2)
    for _ in range(2000):
        parameter.grad = torch.randn(40, 50, generator=generator) * 0.01 + 0.01
        optimizer.step()
    optimizer.state[parameter] = asked("a", dict(optimizer.state[parameter]))
    with torch.no_grad():
        parameter.zero_()
    seen = []
    for number in range(30):
        parameter.grad = gradients(number)
        optimizer.step()
        seen.append(parameter.detach().clone())
    return seen


def test_with_one_mask_no_element_runs_away_and_with_two_some_do() -> None:
    """The gradient of A is zero right after a merge, for B is: then m / sqrt(v) is what moves it."""

    def silent(number: int) -> Tensor:
        return torch.zeros(40, 50)

    for kind in ("random", "magnitude"):
        shared = moved(reset(kind, 0.9), silent)
        assert float(shared[-1].abs().max()) < 30
        apart = moved(reset(kind, 0.9, shared=False), silent)
        assert float(apart[-1].abs().max()) > 1e3
    assert float(moved(reset("zero", restart_count=True), silent)[-1].abs().max()) == 0.0


@pytest.mark.parametrize(("beta2", "first", "largest", "at"), [(0.999, 3.16, 6.57, 12), (0.95, 0.45, 1.10, None)])
def test_zeroed_moments_with_an_old_count_overshoot_as_the_closed_form_says(
    beta2: float, first: float, largest: float, at: int | None
) -> None:
    """A constant gradient moves an element by (1 - b1^k) / sqrt(1 - b2^k) learning rates in update k."""

    def constant(number: int) -> Tensor:
        return torch.full((40, 50), 0.01)

    places = torch.stack([seen[0, 0] for seen in moved(reset("zero"), constant, betas=(0.9, beta2))])
    sizes = torch.diff(places, prepend=torch.zeros(1)).abs().tolist()
    # The old count is so large that the bias is corrected no more.
    formula = [(1 - 0.9**k) / math.sqrt(1 - beta2**k) for k in range(1, 31)]
    correction = math.sqrt(1 - beta2**2000)
    assert sizes == pytest.approx([correction * size for size in formula], rel=0.02)
    assert formula[0] == pytest.approx(first, abs=0.01) and max(formula) == pytest.approx(largest, abs=0.01)
    assert at is None or formula.index(max(formula)) + 1 == at
    fresh = torch.stack([seen[0, 0] for seen in moved(reset("zero", restart_count=True), constant, betas=(0.9, beta2))])
    assert torch.diff(fresh, prepend=torch.zeros(1)).abs().tolist() == pytest.approx([1.0] * 30, rel=1e-3)
