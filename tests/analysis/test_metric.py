"""What holds for every metric of tensors, whatever it measures."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from picolm.analysis.metric import REGISTRY, Takes, metric
from picolm.errors import PicoLMError

SHAPES: dict[Takes, tuple[tuple[int, ...], ...]] = {
    "matrix": ((60, 80),),
    "spectrum": ((60, 80),),
    "activations": ((40, 6),),
    "activation_pair": ((40, 6), (40, 5)),
}
NAMES = [name for name in (*REGISTRY, "per_top_5") if metric(name).takes in SHAPES]


def stack_for(name: str, size: int = 3) -> list[Tensor]:
    """`size` inputs of a metric, stacked; those of a pair are related."""
    generator = torch.Generator().manual_seed(1)
    shapes = SHAPES[metric(name).takes]
    made = [torch.randn(size, *shape, generator=generator) for shape in shapes]
    if len(made) == 2:
        made[1] = made[0][..., : made[1].shape[-1]] + 0.5 * made[1]
    return made


def values_of(name: str, inputs: list[Tensor]) -> dict[str, Tensor]:
    found = metric(name).function(*inputs)
    return dict(found) if isinstance(found, Mapping) else {"": found}


def test_an_unknown_metric_is_named_with_the_nearest_one() -> None:
    with pytest.raises(PicoLMError, match="no metric 'efective_rank'; did you mean 'effective_rank'"):
        metric("efective_rank")


@pytest.mark.parametrize("name", REGISTRY)
def test_each_metric_stands_where_the_registry_says(name: str) -> None:
    found = metric(name)
    assert found.name == name
    assert found.range[0] < found.range[1]
    assert found.summary.endswith(".") and "\n" not in found.summary


@pytest.mark.parametrize("name", NAMES)
def test_a_stack_gives_what_its_members_give_one_by_one(name: str) -> None:
    inputs = stack_for(name)
    for key, values in values_of(name, inputs).items():
        assert values.shape == (3,) and values.dtype == torch.float64
        alone = [values_of(name, [one[place] for one in inputs])[key] for place in range(3)]
        torch.testing.assert_close(values, torch.stack(alone), rtol=1e-10, atol=1e-12, equal_nan=True)
        deeper = values_of(name, [one.reshape(3, 1, *one.shape[1:]) for one in inputs])[key]
        torch.testing.assert_close(deeper, values[:, None], rtol=1e-10, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_values_lie_in_the_declared_range_in_any_precision(name: str) -> None:
    low, high = metric(name).range
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        inputs = [one.to(dtype) for one in stack_for(name)]
        before = [one.clone() for one in inputs]
        for values in values_of(name, inputs).values():
            known = values[values.isfinite()]
            if not values.isnan().all():
                assert len(known) and (known >= low - 1e-9).all() and (known <= high + 1e-9).all()
        assert all(torch.equal(one, was) for one, was in zip(inputs, before, strict=True))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_is_told_where_it_is_and_nowhere_else(name: str, bad: float) -> None:
    inputs = stack_for(name)
    clean = values_of(name, inputs)
    inputs[-1][1, 3, 2] = bad
    for key, values in values_of(name, inputs).items():
        assert not values[1].isfinite()
        others = torch.tensor([0, 2])
        torch.testing.assert_close(values[others], clean[key][others], rtol=1e-10, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_empty_or_of_another_form_is_refused(name: str) -> None:
    inputs = [one[0] for one in stack_for(name)]
    for broken in ([one[:0] for one in inputs], [one[0] for one in inputs]):
        with pytest.raises(PicoLMError):
            metric(name).function(*broken)
    if metric(name).takes == "activation_pair":
        with pytest.raises(PicoLMError, match=r"must be of the same rows, .* not \[40, 6\] and \[39, 5\]"):
            metric(name).function(inputs[0], inputs[1][:-1])


def test_the_number_of_a_family_is_part_of_its_name() -> None:
    matrix = torch.diag(torch.tensor([8.0, 4.0, 4.0, 1.0, 0.5], dtype=torch.float64))
    # Of shares 1/2, 1/4, 1/4 the entropy is 1.5 ln 2.
    found = metric("per_top_3").function(matrix)
    assert isinstance(found, Tensor) and float(found) == pytest.approx(2**1.5 / 3)
    with pytest.raises(PicoLMError, match="1 to 5 can be taken, not 6"):
        metric("per_top_6").function(matrix)
    for name in ("per_top_0", "per_top_", "per_top_x"):
        with pytest.raises(PicoLMError, match=f"there is no metric '{name}'"):
            metric(name)
