"""Circuits as factors: equal to the products, with their spectra, and to what attention does."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from picolm.analysis.circuits import (
    Factors,
    difference,
    first_order,
    ov_circuit,
    ov_concatenated,
    qk_circuit,
    values_through_output,
)
from picolm.analysis.geometry import Geometry

WIDTH, LENGTH = 20, 7


def geometry(heads: int, shared: int, head_dim: int) -> Geometry:
    return Geometry("llama", 1, WIDTH, heads, shared, head_dim, 30, True, head_dim)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SHAPES = st.sampled_from([(4, 4, 3), (4, 2, 3), (6, 1, 5), (1, 1, 2), (2, 2, 30)])


@given(SHAPES, st.integers(0, 50))
def test_circuits_equal_their_products_head_by_head(shape: tuple[int, int, int], seed: int) -> None:
    """With a loop over single rows and columns, nothing of the slicing of the code."""
    heads, shared, dim = shape
    g = geometry(*shape)
    q, k, v = (
        drawn(seed, heads * dim, WIDTH),
        drawn(seed + 1, shared * dim, WIDTH),
        drawn(seed + 2, shared * dim, WIDTH),
    )
    o = drawn(seed + 3, WIDTH, heads * dim)
    total = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    for head in range(heads):
        ov, qk = torch.zeros_like(total), torch.zeros_like(total)
        for entry in range(dim):
            own, common = head * dim + entry, (head * shared // heads) * dim + entry
            ov += torch.outer(o[:, own], v[common])
            qk += torch.outer(q[own], k[common])
        torch.testing.assert_close(ov_circuit(v, o, g, head).product(), ov)
        torch.testing.assert_close(qk_circuit(q, k, g, head).product(), qk)
        total += ov
    torch.testing.assert_close(ov_concatenated(v, o, g).product(), total)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 50))
def test_the_core_has_the_spectrum_of_the_product(m: int, r: int, n: int, seed: int) -> None:
    factors = Factors(drawn(seed, 2, m, r), drawn(seed + 1, 2, r, n))
    core, exact = factors.core(), torch.linalg.svdvals(factors.product())
    assert core.shape == (2, min(m, r), min(r, n))
    some = torch.linalg.svdvals(core)
    shared = min(some.shape[-1], exact.shape[-1])
    torch.testing.assert_close(some[:, :shared], exact[:, :shared], rtol=1e-9, atol=1e-9)
    assert (some[:, shared:].abs() < 1e-9).all() and (exact[:, shared:].abs() < 1e-9).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_core_is_computed_in_float64(dtype: torch.dtype) -> None:
    factors = Factors(drawn(0, 40, 5).to(dtype), drawn(1, 5, 40).to(dtype))
    exact = torch.linalg.svdvals(factors.left.double() @ factors.right.double())[:5]
    assert factors.core().dtype == torch.float64
    torch.testing.assert_close(torch.linalg.svdvals(factors.core()), exact, rtol=1e-12, atol=0)


def test_cores_at_the_edges() -> None:
    zero = Factors(torch.zeros(4, 2), torch.zeros(2, 4)).core()
    assert not zero.any()
    one = Factors(torch.ones(4, 2), torch.ones(2, 4)).core()
    torch.testing.assert_close(
        torch.linalg.svdvals(one), torch.tensor([8.0, 0.0], dtype=torch.float64), atol=1e-12, rtol=0
    )
    assert Factors(torch.full((4, 2), torch.nan), torch.ones(2, 4)).core().isnan().any()
    empty = Factors(torch.ones(0, 4, 2), torch.ones(0, 2, 4)).core()
    assert empty.shape == (0, 2, 2)


@given(SHAPES, st.integers(0, 20))
def test_the_product_rule_equals_the_derivative(shape: tuple[int, int, int], seed: int) -> None:
    """d/ds of W_O(s) W_V(s) along two directions, by autograd through the whole product."""
    heads, shared, dim = shape
    g, weights = geometry(*shape), (drawn(seed, shared * dim, WIDTH), drawn(seed + 1, WIDTH, heads * dim))
    along = (drawn(seed + 2, shared * dim, WIDTH), drawn(seed + 3, WIDTH, heads * dim))
    for circuit in (lambda v, o: ov_circuit(v, o, g, heads - 1), lambda v, o: ov_concatenated(v, o, g)):
        _, exact = torch.autograd.functional.jvp(lambda v, o, c=circuit: c(v, o).product(), weights, along)  # type: ignore[misc]
        made = first_order(circuit(*weights), circuit(*along))
        torch.testing.assert_close(made.product(), exact)
        assert made.left.shape[-1] == 2 * circuit(*weights).left.shape[-1]


@given(SHAPES, st.integers(0, 20))
def test_differences_of_factors_are_those_of_products(shape: tuple[int, int, int], seed: int) -> None:
    heads, shared, dim = shape
    g = geometry(*shape)
    before, after = (
        ov_circuit(drawn(one, shared * dim, WIDTH), drawn(one + 1, WIDTH, heads * dim), g, 0)
        for one in (seed, seed + 2)
    )
    change = difference(after, before)
    assert isinstance(change, Factors)
    torch.testing.assert_close(change.product(), after.product() - before.product())
    torch.testing.assert_close(
        torch.linalg.svdvals(change.core())[: min(2 * dim, WIDTH)],
        torch.linalg.svdvals(after.product() - before.product())[: min(2 * dim, WIDTH)],
        rtol=1e-8,
        atol=1e-8,
    )


def test_differences_are_taken_in_float32_at_least() -> None:
    old, new = torch.full((2, 2), 1.0), torch.full((2, 2), 1.0078125)
    change = difference(new.bfloat16(), old.bfloat16())
    assert isinstance(change, Tensor) and change.dtype == torch.float32
    assert change.tolist() == [[0.0078125, 0.0078125]] * 2
    factors = difference(Factors(new.half(), new.half()), Factors(old.half(), old.half()))
    assert isinstance(factors, Factors) and factors.left.dtype == torch.float32


@given(SHAPES, st.integers(0, 20))
def test_values_through_the_output_are_what_a_token_adds(shape: tuple[int, int, int], seed: int) -> None:
    heads, shared, dim = shape
    g, x = geometry(*shape), drawn(seed, 3, LENGTH, WIDTH)
    v, o = drawn(seed + 1, shared * dim, WIDTH), drawn(seed + 2, WIDTH, heads * dim)
    parts = [values_through_output(x @ v.T, o, g, head) for head in range(heads)]
    for head, part in enumerate(parts):
        torch.testing.assert_close(part, x @ ov_circuit(v, o, g, head).product().T)
    whole = values_through_output(x @ v.T, o, g, None)
    torch.testing.assert_close(whole, torch.stack(parts).sum(0))
    torch.testing.assert_close(whole, x @ ov_concatenated(v, o, g).product().T)
    # Attention to one token is this, and no more.
    torch.testing.assert_close(
        values_through_output((x @ v.T).float(), o, g, None).double(), whole, rtol=1e-4, atol=1e-4
    )


def test_circuits_are_batched_over_leading_dimensions() -> None:
    g, v, o = geometry(4, 2, 3), drawn(0, 5, 6, 6, WIDTH), drawn(1, 5, 6, WIDTH, 12)
    for head in (None, 3):
        factors = ov_concatenated(v, o, g) if head is None else ov_circuit(v, o, g, head)
        alone = ov_concatenated(v[2, 4], o[2, 4], g) if head is None else ov_circuit(v[2, 4], o[2, 4], g, head)
        torch.testing.assert_close(factors.product()[2, 4], alone.product())
        torch.testing.assert_close(factors.core()[2, 4], alone.core())


def test_heads_that_share_values_add_no_rank_to_their_layer() -> None:
    g = geometry(6, 2, 3)
    v, o = drawn(0, 6, WIDTH), drawn(1, WIDTH, 18)
    factors = ov_concatenated(v, o, g)
    assert factors.left.shape == (WIDTH, 6) and factors.right.shape == (6, WIDTH)
    assert int(torch.linalg.matrix_rank(factors.product())) == 6
    # Half-precision columns are added up in float32: sums of 3 of them need more digits than they have.
    half = o.bfloat16()
    exact = half.double() @ v.bfloat16().double().view(2, 1, 3, WIDTH).expand(2, 3, 3, WIDTH).reshape(18, WIDTH)
    rounded = ov_concatenated(v.bfloat16(), half, g)
    torch.testing.assert_close(rounded.left.double() @ rounded.right.double(), exact, rtol=1e-6, atol=1e-6)
