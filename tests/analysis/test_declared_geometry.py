"""What metrics declare holds: what they take, where their values lie, and that layers are done at once."""

import math

import pytest
import torch
from torch import Tensor

from picolm.analysis.metric import REGISTRY, metric

MODULES = ("anisotropy", "attention", "dimension", "noise", "plasticity")
NAMES = [name for name, place in REGISTRY.items() if place.partition(":")[0].rpartition(".")[2] in MODULES]


def given(takes: str, scale: float) -> tuple[Tensor, ...]:
    """Input for two checkpoints of three layers."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return scale * torch.randn(2, 3, *shape, generator=generator) + scale / 2

    if takes == "pattern":
        hidden = torch.ones(7, 7).triu(1).bool()
        return (normal(4, 7, 7).masked_fill(hidden, -math.inf).softmax(-1),)
    if takes == "matrix_pair":
        return normal(6, 5), normal(6, 5)
    return (normal(12, 9),)


def values(name: str, *tensors: Tensor) -> dict[str, Tensor]:
    found = metric(name).function(*tensors)
    return {"": found} if isinstance(found, Tensor) else dict(found)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_values_lie_where_the_metric_says(name: str, scale: float) -> None:
    low, high = metric(name).range
    for value in values(name, *given(metric(name).takes, scale)).values():
        assert value.dtype == torch.float64 and not value.isnan().all()
        known = value[~value.isnan()]
        assert (low <= known).all() and (known <= high).all()


@pytest.mark.parametrize("name", NAMES)
def test_layers_and_checkpoints_are_done_at_once(name: str) -> None:
    tensors = given(metric(name).takes, 1.0)
    together = values(name, *tensors)
    alone = values(name, *(tensor[1, 2] for tensor in tensors))
    for key, value in together.items():
        assert value.shape[:2] == (2, 3)
        assert torch.allclose(value[1, 2], alone[key], rtol=1e-12, equal_nan=True)
    heads = (4,) if metric(name).takes == "pattern" else ()
    assert all(value.shape == heads for value in alone.values())


def test_each_has_a_sentence_for_readers() -> None:
    assert len(NAMES) == 14
    for name in NAMES:
        summary = metric(name).summary
        assert summary.endswith(".") and len(summary) <= 120
