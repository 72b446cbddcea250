"""What a similarity is when there is none: closed forms and permutations of rows.

A similarity lies between what unrelated activations of the same spectra and number of rows would give, and 1. Rows are
permuted on one side, which keeps everything of that side but which row is which. Rows of one document are not
exchangeable: take one token of each document, or bands are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from picolm.analysis.activation_rank import activation_participation_ratio
from picolm.analysis.cka import debiased_ratio, products, squared_lengths, unbiased_hsic
from picolm.analysis.metric import Metric
from picolm.analysis.rows import centred, precise_pair
from picolm.errors import PicoLMError
from picolm.randomness import generator


def biased_cka_chance(x: Tensor, y: Tensor) -> Tensor:
    """Mean of `biased_cka` over all permutations of the rows of one side, in closed form.

        sqrt(PR_x PR_y) / (n - 1),   PR the participation ratios of these rows

    A permutation leaves |X^T X|_F and |Y^T Y|_F as they are, and |X^T P Y|_F^2 is tr X^T X tr Y^T Y / (n - 1) on
    average. The mean of `debiased_cka` is 0.

    Args:
        x: [..., n, d], n >= 2.
        y: [..., n, d'], the same rows.

    Returns:
        [...], float64, from 1 / (n - 1) to 1; NaN where all rows of a side are equal, or one is not finite.

    Raises:
        PicoLMError: the rows do not fit, or there are fewer than two.

    Source:
        The permutation mean of the RV coefficient: Kazi-Aoual et al. 1995. O(n d min(n, d)).
    """
    x, y = precise_pair(x, y, least=2)
    ratios = activation_participation_ratio(x) * activation_participation_ratio(y)
    return ratios.sqrt() / (x.shape[-2] - 1)


def expected_biased_cka(n: int, ratio_x: float, ratio_y: float) -> float:
    """What `biased_cka` of independent activations will be: ((1 + (n - 1) / PR_x) (1 + (n - 1) / PR_y))^(-1/2).

    To plan with: how many rows are needed for a floor that does not matter.

    Args:
        n: rows.
        ratio_x: participation ratio of the true covariance, (tr S)^2 / tr S^2; d for d alike dimensions.
        ratio_y: of the other side.

    Raises:
        PicoLMError: there are fewer than two rows, or a ratio is below 1.

    Source:
        E|X^T X|_F^2 of Gaussian rows; simulations differ from it by 0.01 at most.
    """
    if n < 2 or min(ratio_x, ratio_y) < 1:
        raise PicoLMError(
            f"a floor needs two rows or more and participation ratios from 1 up, not {n}, {ratio_x}, {ratio_y}"
        )
    return float(((1 + (n - 1) / ratio_x) * (1 + (n - 1) / ratio_y)) ** -0.5)


def permutations_of(n: int, *, count: int, seed: int) -> Tensor:
    """Orders of n rows, int64 [count, n], the same for a seed whatever is compared.

    Raises:
        PicoLMError: none is asked for.
    """
    if count < 1:
        raise PicoLMError(f"a null needs a permutation at least, not {count}")
    orders = [generator(seed, "permutation", number).permutation(n) for number in range(count)]
    return torch.from_numpy(np.stack(orders))


def permutation_null(
    function: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, *, permutations: int = 100, seed: int = 0
) -> Tensor:
    """A similarity after permutations of the rows of y: what it would be if nothing were shared.

    Args:
        function: the similarity, of x and y, [...].
        x: [..., n, d].
        y: [..., n, d'].
        permutations: how many.
        seed: of them.

    Returns:
        [..., permutations].

    Raises:
        PicoLMError: as `function`, or no permutation is asked for.

    Source:
        Fisher 1935. As many times the cost of `function`; for CKA and RSA see `cka_null` and `rsa_null`.
    """
    orders = permutations_of(y.shape[-2], count=permutations, seed=seed)
    return torch.stack([function(x, y[..., order.to(y.device), :]) for order in orders], dim=-1)


def cka_null(x: Tensor, y: Tensor, *, debiased: bool = True, permutations: int = 100, seed: int = 0) -> Tensor:
    """`permutation_null` of CKA, at the cost of one product each: what only concerns a side is computed once.

    Args:
        x: [..., n, d], n >= 4 (biased: 2).
        y: [..., n, d'], the same rows.
        debiased: which estimator.
        permutations: how many.
        seed: of them.

    Returns:
        [..., permutations], float64, NaN as for the estimator.

    Raises:
        PicoLMError: as the estimator, or no permutation is asked for.
    """
    x, y = map(centred, precise_pair(x, y, least=4 if debiased else 2))
    xx, _, yy = products(x, y)
    k, m = squared_lengths(x), squared_lengths(y)
    between_rows = max(x.shape[-1], y.shape[-1]) > x.shape[-2]
    if between_rows:
        x, y = x @ x.mT, y @ y.mT
    values = []
    for order in permutations_of(x.shape[-2], count=permutations, seed=seed).to(x.device):
        moved = y[..., order, :]
        xy = (x * moved[..., order]).sum((-2, -1)) if between_rows else (x.mT @ moved).square().sum((-2, -1))
        if debiased:
            norms = unbiased_hsic(xx, k, k), unbiased_hsic(yy, m, m)
            values.append(debiased_ratio(unbiased_hsic(xy, k, m[..., order]), *norms, xx, yy))
        else:
            values.append(xy / (xx * yy).sqrt())
    return torch.stack(values, dim=-1)


def null_band(null: Tensor, *, level: float = 0.95) -> dict[str, Tensor]:
    """The middle of a null.

    Args:
        null: values under permutations [..., P].
        level: the share of them that the band holds.

    Returns:
        `mean`, `low` and `high`, each [...]; a value above `high` is more than chance, at (1 - level) / 2.

    Raises:
        PicoLMError: the level is no share.
    """
    if not 0 < level < 1:
        raise PicoLMError(f"the level of a band must lie between 0 and 1, not {level}")
    ends = null.new_tensor([(1 - level) / 2, (1 + level) / 2])
    low, high = torch.quantile(null, ends, dim=-1)
    return {"mean": null.mean(-1), "low": low, "high": high}


def above_chance(value: Tensor, chance: Tensor) -> Tensor:
    """A similarity on a scale from chance (0) to identity (1): (value - chance) / (1 - chance).

    Args:
        value: [...].
        chance: [...], of a null, or the similarity of the untrained model to the final one.

    Returns:
        [...], up to 1; NaN where chance is 1.

    Source:
        Cohen 1960, as in kappa.
    """
    return torch.where(chance < 1, (value - chance) / (1 - chance), torch.nan)


BIASED_CKA_CHANCE = Metric(
    "biased_cka_chance",
    "activation_pair",
    biased_cka_chance,
    (0.0, 1.0),
    "What biased_cka is on average when the rows of one side are permuted.",
)
