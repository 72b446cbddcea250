import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from picolm.analysis.cka import biased_cka, debiased_cka, minibatch_cka
from picolm.analysis.cka_matrix import cka_matrix
from picolm.analysis.cka_stream import CKAStream
from picolm.analysis.kernel_cka import rbf_cka
from picolm.errors import PicoLMError

BOTH = pytest.mark.parametrize("cka", [biased_cka, debiased_cka])


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def related(n: int, d: int, e: int) -> tuple[Tensor, Tensor]:
    x = noise(0, n, d) * torch.arange(1, d + 1) + 3
    return x, x @ noise(1, d, e) + 5 * noise(2, n, e)


def hsic_by_definition(x: Tensor, y: Tensor) -> float:
    """The U-statistic: the mean over all ordered quadruples of different rows."""
    k, m = x @ x.T, y @ y.T
    quadruples = list(itertools.permutations(range(len(x)), 4))
    total = sum(float(k[i, j] * m[i, j] + k[i, j] * m[q, r] - 2 * k[i, j] * m[i, q]) for i, j, q, r in quadruples)
    return total / len(quadruples)


def test_the_debiased_estimator_is_the_u_statistic() -> None:
    x, y = related(6, 3, 2)
    expected = hsic_by_definition(x, y) / (hsic_by_definition(x, x) * hsic_by_definition(y, y)) ** 0.5
    assert debiased_cka(x, y).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "d", "e"), [(30, 4, 6), (8, 12, 5), (8, 5, 12)])
def test_the_biased_one_is_the_published_formula_in_features_and_between_rows(n: int, d: int, e: int) -> None:
    x, y = related(n, d, e)
    centring = torch.eye(n, dtype=torch.float64) - 1 / n
    k, m = centring @ x @ x.T @ centring, centring @ y @ y.T @ centring
    between_rows = (k * m).sum() / (torch.linalg.norm(k) * torch.linalg.norm(m))
    a, b = x - x.mean(0), y - y.mean(0)
    norms = torch.linalg.norm(a.T @ a) * torch.linalg.norm(b.T @ b)
    in_features = torch.linalg.norm(a.T @ b).square() / norms
    for expected in (between_rows, in_features):
        assert biased_cka(x, y).item() == pytest.approx(expected.item(), rel=1e-10)


@BOTH
@pytest.mark.parametrize("shape", [(30, 4, 6), (8, 12, 9)])
def test_shift_scale_and_rotation_change_nothing_and_other_maps_do(cka, shape) -> None:  # type: ignore[no-untyped-def]
    x, y = related(*shape)
    rotation = torch.linalg.qr(noise(3, shape[1], shape[1])).Q
    value = cka(x, y).item()
    assert cka(-7 * x @ rotation + 100, 1e-3 * y - 5).item() == pytest.approx(value, rel=1e-9)
    assert cka(y, x).item() == pytest.approx(value, rel=1e-12)
    assert cka(x @ noise(4, shape[1], shape[1]), y).item() != pytest.approx(value, rel=1e-3)
    assert cka(x, 2 * x @ rotation + 1).item() == pytest.approx(1, rel=1e-9)


@BOTH
def test_without_structure_on_a_side_there_is_no_value(cka) -> None:  # type: ignore[no-untyped-def]
    # 0.1 has no exact mean: what rounding leaves of it is no structure.
    assert cka(torch.full((7, 3), 0.1, dtype=torch.float64), noise(0, 7, 2)).isnan()
    assert cka(noise(0, 7, 2), torch.full((7, 3), 0.1, dtype=torch.float64)).isnan()


def test_rows_that_are_equally_far_from_each_other_have_no_debiased_value() -> None:
    assert debiased_cka(torch.eye(6), noise(0, 6, 3)).isnan()
    assert biased_cka(torch.eye(6), noise(0, 6, 3)).isfinite()


def test_independent_noise_at_the_size_of_a_pico_capture() -> None:
    x, y = (torch.randn(1435, 1536, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert abs(debiased_cka(x, y).item()) < 0.005
    assert biased_cka(x, y).item() == pytest.approx(0.517, abs=0.005)


def test_rows_that_are_too_few_are_refused() -> None:
    with pytest.raises(PicoLMError, match=r"of 4 rows or more, not \[3, 2\]"):
        debiased_cka(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(PicoLMError, match=r"of 2 rows or more, not \[1, 2\]"):
        biased_cka(torch.ones(1, 2), torch.ones(1, 2))


def test_one_side_may_be_compared_with_a_stack() -> None:
    x, y = noise(0, 5, 20, 3), noise(1, 20, 4)
    expected = torch.stack([debiased_cka(one, y) for one in x])
    torch.testing.assert_close(debiased_cka(x, y), expected, rtol=1e-10, atol=1e-12)
    with pytest.raises(PicoLMError, match="must be of the same rows"):
        debiased_cka(x, noise(1, 3, 20, 4))


@given(st.lists(st.integers(0, 40), max_size=6), st.floats(-5, 5))
def test_a_stream_gives_the_value_of_all_rows_whatever_the_batches(cuts: list[int], offset: float) -> None:
    x, y = (torch.stack([one, one.flip(0).square()]) for one in related(40, 5, 3))
    borders = sorted({0, 40, *cuts})
    stream = CKAStream(x[:, 0] + offset, y[:, 0] - offset)
    for start, stop in itertools.pairwise(borders):
        stream.add(x[:, start:stop], y[:, start:stop])
    assert stream.n == 40
    torch.testing.assert_close(stream.debiased(), debiased_cka(x, y), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(stream.biased(), biased_cka(x, y), rtol=1e-10, atol=1e-12)


def test_streams_of_two_ranks_add_up() -> None:
    x, y = related(40, 5, 3)
    ranks = [CKAStream(x[:10].mean(0), y[:10].mean(0)).add(x[part], y[part]) for part in (slice(0, 13), slice(13, 40))]
    idle = CKAStream(x[:10].mean(0), y[:10].mean(0))
    both = ranks[0] + ranks[1] + idle
    assert both.n == 40 and ranks[0].n == 13
    assert both.debiased().item() == pytest.approx(debiased_cka(x, y).item(), rel=1e-10)
    with pytest.raises(PicoLMError, match="began with the same offsets"):
        both + CKAStream(x[0], y[0])
    with pytest.raises(PicoLMError, match=r"the widths of its offsets, \[5, 3\], not \[3, 5\]"):
        idle.add(y, x)


def test_a_stream_far_from_its_offset_is_precise_or_says_nothing() -> None:
    x, y = related(60, 5, 3)
    values = [CKAStream(torch.full((5,), -far), torch.full((3,), far)).add(x, y) for far in 2.0 ** torch.arange(24)]
    told = [stream for stream in values if not stream.debiased().isnan()]
    assert 4 < len(told) < 20
    for stream in told:
        assert stream.debiased().item() == pytest.approx(debiased_cka(x, y).item(), rel=1e-6)
        assert stream.biased().item() == pytest.approx(biased_cka(x, y).item(), rel=1e-6)


def test_a_stream_of_equal_rows_has_no_value() -> None:
    _, y = related(60, 5, 3)
    constant = CKAStream(torch.zeros(5), torch.zeros(3)).add(torch.full((60, 5), 0.1), y)
    assert constant.debiased().isnan() and constant.biased().isnan()


def test_a_stream_with_few_rows_has_no_value_yet() -> None:
    stream = CKAStream(torch.zeros(2), torch.zeros(2))
    with pytest.raises(PicoLMError, match="needs 2 rows or more, not 0"):
        stream.biased()
    stream.add(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(PicoLMError, match="needs 4 rows or more, not 3"):
        stream.debiased()


def test_minibatches_sum_unbiased_parts_and_one_batch_is_all_rows() -> None:
    x, y = related(40, 5, 3)
    assert minibatch_cka([(x, y)]).item() == pytest.approx(debiased_cka(x, y).item(), rel=1e-12)
    parts = [(x[:5], y[:5]), (x[5:11], y[5:11])]
    hsic = [[hsic_by_definition(*pair) for pair in ((a, b), (a, a), (b, b))] for a, b in parts]
    xy, xx, yy = (sum(column) for column in zip(*hsic, strict=True))
    assert minibatch_cka(iter(parts)).item() == pytest.approx(xy / (xx * yy) ** 0.5, rel=1e-9)
    with pytest.raises(PicoLMError, match="needs a batch at least"):
        minibatch_cka([])


@pytest.mark.parametrize(("n", "d"), [(300, 3), (30, 70), (300, 400)])
@pytest.mark.parametrize("debiased", [True, False])
def test_each_with_each_is_pair_by_pair(n: int, d: int, debiased: bool) -> None:
    cka = debiased_cka if debiased else biased_cka
    first = [noise(seed, n, d + seed) + noise(9, n, d + seed) for seed in range(3)]
    second = [first[0] @ noise(5, d, 4) + 1, torch.full((n, 2), 0.1)]
    alone = cka_matrix(first, debiased=debiased)
    crossed = cka_matrix(first, second, debiased=debiased)
    for row, x in enumerate(first):
        expected = [cka(x, y).item() for y in (*first, *second)]
        found = torch.cat([alone[row], crossed[row]]).tolist()
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
    assert crossed[:, 1].isnan().all() and not crossed[:, 0].isnan().any()


def test_each_with_each_needs_sets_of_the_same_rows() -> None:
    with pytest.raises(PicoLMError, match="one at least, not none"):
        cka_matrix([])
    with pytest.raises(PicoLMError, match=r"sets of rows \[n, d\], one at least, not \[2, 5, 3\]"):
        cka_matrix([torch.ones(2, 5, 3)])
    with pytest.raises(PicoLMError, match="must be of the same rows"):
        cka_matrix([torch.ones(5, 3)], [torch.ones(6, 3)])


def test_gaussian_kernels_are_blind_to_shift_scale_and_rotation_and_see_what_is_not_linear() -> None:
    x, y = related(30, 4, 6)
    rotation = torch.linalg.qr(noise(3, 4, 4)).Q
    for debiased in (True, False):
        value = rbf_cka(x, y, debiased=debiased).item()
        assert rbf_cka(-7 * x @ rotation + 100, y / 9, debiased=debiased).item() == pytest.approx(value, rel=1e-8)
        assert rbf_cka(x, x, debiased=debiased).item() == pytest.approx(1, rel=1e-12)
    angle = torch.linspace(0, 6.28, 200, dtype=torch.float64)
    circle, line = torch.stack([angle.cos(), angle.sin()], -1), angle[:, None]
    assert rbf_cka(circle, line, bandwidth=0.3) > debiased_cka(circle, line) + 0.1


def test_wide_gaussian_kernels_are_linear_ones() -> None:
    x, y = related(30, 4, 6)
    for debiased, linear in ((True, debiased_cka), (False, biased_cka)):
        wide = rbf_cka(x, y, bandwidth=300, debiased=debiased).item()
        assert wide == pytest.approx(linear(x, y).item(), abs=1e-4)


def test_the_bandwidth_is_the_median_squared_distance_with_the_diagonal() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    distances = (x - x.T).square()
    middle = distances.flatten().sort().values[7:9].mean()
    gram = (-distances / (2 * 0.5**2 * middle)).exp()
    y = noise(0, 4, 2)
    other = torch.cdist(y, y).square()
    gram_y = (-other / (2 * 0.5**2 * other.flatten().sort().values[7:9].mean())).exp()
    centring = torch.eye(4, dtype=torch.float64) - 0.25
    a, b = centring @ gram @ centring, centring @ gram_y @ centring
    expected = (a * b).sum() / (torch.linalg.norm(a) * torch.linalg.norm(b))
    assert rbf_cka(x, y, bandwidth=0.5, debiased=False).item() == pytest.approx(expected.item(), rel=1e-10)


def test_a_bandwidth_of_nothing_is_refused_or_told() -> None:
    with pytest.raises(PicoLMError, match="a bandwidth must be above 0, not 0"):
        rbf_cka(noise(0, 5, 2), noise(1, 5, 2), bandwidth=0)
    mostly_equal = torch.zeros(8, 2, dtype=torch.float64)
    mostly_equal[0] = 1
    assert rbf_cka(mostly_equal, noise(0, 8, 2)).isnan()
