import pytest
import torch

from picolm.analysis.random_matrices import noise_per, noise_product_per, per_over_noise
from picolm.analysis.rank import participation_ratio, proportional_effective_rank, stable_rank
from picolm.analysis.spectrum import product_spectrum
from picolm.errors import PicoLMError


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_golden_values_of_the_integral() -> None:
    assert noise_per(512, 512) == pytest.approx(0.8050, abs=5e-5)
    assert noise_per(384, 1024) == noise_per(1024, 384) == pytest.approx(0.9471, abs=5e-5)
    assert noise_per(384, 1536) == pytest.approx(0.9662, abs=5e-5)


@pytest.mark.parametrize("shape", [(512, 512), (384, 1024), (384, 1536), (96, 96), (96, 384)])
def test_draws_of_a_shape_give_what_is_foretold(shape: tuple[int, int]) -> None:
    gamma = min(shape) / max(shape)
    least = min(shape)
    matrix = noise(0, 1536 // least, *shape)
    assert proportional_effective_rank(matrix).mean().item() == pytest.approx(noise_per(*shape), abs=0.003)
    assert participation_ratio(matrix).mean().item() / least == pytest.approx(1 / (1 + gamma), rel=0.02)
    # The largest singular value falls short by an order of n^(-2/3).
    assert stable_rank(matrix).mean().item() / least == pytest.approx(
        1 / (1 + gamma**0.5) ** 2, rel=1.5 * least ** (-2 / 3)
    )


def test_entries_need_not_be_gaussian() -> None:
    uniform = torch.rand(384, 1536, generator=torch.Generator().manual_seed(0)) - 0.5
    assert per_over_noise(uniform).item() == pytest.approx(1, abs=0.003)


@pytest.mark.parametrize(("d_model", "d_head", "published"), [(512, 64, 0.966), (768, 64, 0.978), (2560, 80, 0.992)])
def test_circuits_at_initialisation_are_where_pythias_begin(d_model: int, d_head: int, published: float) -> None:
    assert noise_product_per(d_model, d_model, d_head) == pytest.approx(published, abs=0.0015)


def test_products_are_read_against_products() -> None:
    left, right = noise(0, 12, 96, 8), noise(1, 12, 8, 96)
    known = product_spectrum(left, right)
    assert per_over_noise(known).mean().item() == pytest.approx(1, abs=0.01)
    square = noise(2, 256, 256), noise(3, 256, 256)
    assert per_over_noise(product_spectrum(*square)).item() == pytest.approx(1, abs=0.01)
    # The same matrix taken for a plain one would look as if it had lost a sixth of its rank.
    assert per_over_noise(square[0] @ square[1]).item() == pytest.approx(0.669 / 0.805, abs=0.01)


def test_simulations_are_keyed_by_seed_and_shape() -> None:
    first = noise_product_per(30, 30, 5, seed=1)
    noise_product_per.cache_clear()
    assert noise_product_per(30, 30, 5, seed=1) == first != noise_product_per(30, 30, 5, seed=2)


def test_shapes_without_entries_are_refused() -> None:
    with pytest.raises(PicoLMError, match="a row and a column at least, not 0 x 4"):
        noise_per(0, 4)
    with pytest.raises(PicoLMError, match="not 4 x 0 by 0 x 4"):
        noise_product_per(4, 4, 0)
