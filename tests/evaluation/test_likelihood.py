"""Log-probabilities at places: the softmax written out, however places repeat and whatever is held at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from picolm.evaluation.likelihood import likelihood


@given(
    data=st.data(),
    rows=st.integers(1, 9),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_it_is_the_softmax_written_out(data: st.DataObject, rows: int, seed: int, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(2, 5, 4, generator=draw, dtype=dtype) * 4
    matrix = torch.randn(7, 4, generator=draw, dtype=dtype)
    pairs = data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6)), min_size=1, max_size=30))
    places, targets = map(np.array, zip(*pairs, strict=True))
    found = likelihood(hidden, matrix, places, targets, rows=rows, dtype=dtype, wants_largest=True)
    logits = (hidden.double() @ matrix.double().T).flatten(0, 1)
    np.testing.assert_allclose(found.log_p, logits.log_softmax(-1)[places, targets], atol=2e-5)
    np.testing.assert_array_equal(found.is_largest, (logits.argmax(-1)[places] == torch.from_numpy(targets)))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e4, 1e30])
def test_neither_huge_nor_tiny_logits_overflow(scale: float) -> None:
    matrix = torch.eye(3) * scale
    found = likelihood(torch.eye(3), matrix, np.arange(3), np.array([0, 0, 2]), rows=2, dtype=torch.float32)
    np.testing.assert_allclose(
        found.log_p, (torch.eye(3) * scale).double().log_softmax(-1)[range(3), [0, 0, 2]], rtol=1e-6
    )


def test_the_first_of_several_largest_counts() -> None:
    found = likelihood(
        torch.ones(1, 2),
        torch.ones(3, 2),
        np.zeros(3, int),
        np.arange(3),
        rows=1,
        dtype=torch.float32,
        wants_largest=True,
    )
    assert found.is_largest.tolist() == [True, False, False]


def test_the_softmax_of_half_precision_is_not_in_half_precision() -> None:
    hidden, matrix = torch.randn(3, 8), torch.randn(5, 8)
    found = likelihood(hidden, matrix, np.arange(3), np.arange(3), rows=2, dtype=torch.bfloat16)
    logits = hidden.bfloat16() @ matrix.bfloat16().T
    np.testing.assert_allclose(found.log_p, logits.double().log_softmax(-1)[range(3), range(3)], atol=1e-6)
