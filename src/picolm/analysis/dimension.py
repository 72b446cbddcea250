"""Intrinsic dimension: how many numbers would be enough to say where a row lies among its neighbours (TwoNN)."""

from __future__ import annotations

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.rows import precise_rows
from picolm.errors import PicoLMError

# Rows by the quick distance among which the two nearest are sought exactly, and rows that are looked at together.
_CANDIDATES = 8
_BLOCK = 1024


def two_nn(activations: Tensor, *, dropped: float = 0.1) -> dict[str, Tensor]:
    """Intrinsic dimension from the two nearest neighbours of each row.

    Where density is constant on the scale of two neighbours, mu = r2 / r1 has the distribution F(mu) = 1 - mu^-D.
    With mu_1 <= ... <= mu_N sorted,

        slope   = sum_i x_i y_i / sum_i x_i^2,  x_i = ln mu_i,  y_i = -ln(1 - i / N),  the largest ratios dropped
        mle     = (N - 1) / sum_i ln mu_i,  all ratios

    `mle` is unbiased under the model; `slope`, the published estimator, cares less for outliers. Both fall short where
    the dimension is high for the number of rows (3,000 rows in 10 dimensions give about 9.9, in 20 about 17), so
    compare at equal n. Tokens of one sequence are neighbours: few rows of many sequences say more than many of few.

    Args:
        activations: [..., n, d]. Rows that occur more than once count once.
        dropped: the share of largest ratios that the slope leaves out.

    Returns:
        `slope`, `mle` and `duplicates` (how many rows were left out), each [...], float64, from 0 up. The first two are
        NaN where fewer than 3 different rows are left, or a row is not finite, and infinite where the two neighbours of
        each row are equally far (rows on a grid), which says nothing.

    Raises:
        PicoLMError: the activations have no rows, or all ratios would be dropped.

    Source:
        Facco et al. 2017 (Scientific Reports 7:12140). O(n^2 d), in blocks of 1,024 rows.
    """
    stack = precise_rows(activations, least=1)
    if not 0 <= dropped < 1:
        raise PicoLMError(f"the share of ratios that is dropped must be from 0 to below 1, not {dropped}")
    # How many rows are different is another number in each layer, so layers are done one by one.
    each = [_two_nn(rows, dropped) for rows in stack[None].flatten(0, -3)]
    values = torch.tensor(each, dtype=torch.float64).reshape(*stack.shape[:-2], 3)
    return {"slope": values[..., 0], "mle": values[..., 1], "duplicates": values[..., 2]}


def neighbour_distances(rows: Tensor) -> Tensor:
    """Distances to the two nearest other rows, [n, 2], of different rows [n, d], n >= 3.

    Candidates come from |x|^2 - 2 x y + |y|^2, which is quick but cancels; their distances from differences.
    """
    # Which cancels least when the rows lie around 0.
    centred = rows - rows.mean(0)
    squares = centred.square().sum(-1)
    found = []
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        distances = squares[block, None] - 2 * centred[block] @ centred.T + squares
        own = torch.arange(len(distances), device=rows.device)
        distances[own, own + start] = torch.inf
        nearest = distances.topk(min(_CANDIDATES, len(rows) - 1), largest=False).indices
        exact = torch.linalg.vector_norm(rows[block, None] - rows[nearest], dim=-1)
        found.append(exact.topk(2, largest=False, sorted=True).values)
    return torch.cat(found)


def _two_nn(rows: Tensor, dropped: float) -> tuple[float, float, float]:
    if not rows.isfinite().all():
        return torch.nan, torch.nan, torch.nan
    different = torch.unique(rows, dim=0)
    n, duplicates = len(different), len(rows) - len(different)
    if n < 3:
        return torch.nan, torch.nan, float(duplicates)
    near = neighbour_distances(different)
    ratios = (near[:, 1] / near[:, 0]).log().sort().values
    # The last of all ranks is left out whatever is dropped: 1 - n / n has no logarithm.
    kept = ratios[: min(n - 1, max(1, int(n * (1 - dropped))))]
    ranks = torch.arange(1, len(kept) + 1, dtype=rows.dtype, device=rows.device)
    slope = kept @ -torch.log1p(-ranks / n) / (kept @ kept) if kept.any() else torch.inf
    return float(slope), float((n - 1) / ratios.sum()), float(duplicates)


INTRINSIC_DIMENSION = Metric(
    "intrinsic_dimension",
    "activations",
    two_nn,
    (0.0, float("inf")),
    "Intrinsic dimension of the rows (TwoNN), by slope and by maximum likelihood, and the duplicates left out.",
)
