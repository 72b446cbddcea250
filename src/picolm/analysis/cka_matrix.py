"""Linear CKA of each with each: checkpoint by checkpoint, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from picolm.analysis.cka import debiased_ratio, squared_lengths, unbiased_hsic
from picolm.analysis.rows import centred, precise_pair
from picolm.errors import PicoLMError

# Rows of all Gram matrices that are held at once.
_BLOCK = 256


def cka_matrix(
    activations: Sequence[Tensor], others: Sequence[Tensor] | None = None, *, debiased: bool = True
) -> Tensor:
    """CKA of each of some activations with each of others.

    Args:
        activations: A sets of rows [n, d_a], of any widths.
        others: B sets of the same n rows [n, d_b]; None: the same sets.
        debiased: as `debiased_cka`, else as `biased_cka`.

    Returns:
        [A, B], float64; NaN in the rows and columns of those for which these functions give NaN.

    Raises:
        PicoLMError: there is nothing to compare, or the rows do not fit or are fewer than four (biased: two).

    Source:
        As `debiased_cka`. The least of O(A B n d^2) and O((A + B) n^2 d); of n x n matrices 256 rows are held at once.
    """
    first = _prepared(activations, debiased)
    second = first if others is None else _prepared(others, debiased)
    precise_pair(first[0], second[0], least=1)
    xy = _products(first, second)
    xx = torch.stack([_products([one], [one])[0, 0] for one in first])
    yy = xx if others is None else torch.stack([_products([one], [one])[0, 0] for one in second])
    if not debiased:
        return xy / (xx[:, None] * yy).sqrt()
    k, m = torch.stack([squared_lengths(one) for one in first]), torch.stack([squared_lengths(one) for one in second])
    return debiased_ratio(
        unbiased_hsic(xy, k[:, None], m),
        unbiased_hsic(xx, k, k)[:, None],
        unbiased_hsic(yy, m, m),
        xx[:, None],
        yy,
    )


def _prepared(sets: Sequence[Tensor], debiased: bool) -> list[Tensor]:
    if not sets or any(one.ndim != 2 for one in sets):
        shapes = ", ".join(str(list(one.shape)) for one in sets) or "none"
        raise PicoLMError(f"CKA of each with each needs sets of rows [n, d], one at least, not {shapes}")
    return [centred(precise_pair(one, sets[0], least=4 if debiased else 2)[0]) for one in sets]


def _products(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """<X_a X_a^T, Y_b Y_b^T> for all pairs of centred rows [A, B]."""
    n = first[0].shape[0]
    widths = [one.shape[1] for one in first], [one.shape[1] for one in second]
    in_features = sum(widths[0]) * sum(widths[1])
    between_rows = n * (sum(widths[0]) + (0 if second is first else sum(widths[1])))
    if in_features <= between_rows:
        return torch.stack([torch.stack([(x.T @ y).square().sum() for y in second]) for x in first])
    total = first[0].new_zeros(len(first), len(second))
    for start in range(0, n, _BLOCK):
        rows = _gram_rows(first, start)
        total += rows @ (rows if second is first else _gram_rows(second, start)).T
    return total


def _gram_rows(sets: list[Tensor], start: int) -> Tensor:
    return torch.stack([(one[start : start + _BLOCK] @ one.T).flatten() for one in sets])
