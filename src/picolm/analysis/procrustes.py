"""Procrustes distance: what is left between two sets of activations after the best rotation."""

from __future__ import annotations

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.norms import nuclear_norm
from picolm.analysis.rows import centred, precise_pair
from picolm.analysis.spectrum import product_spectrum


def procrustes(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Orthogonal Procrustes distance of activations that are centred and scaled to |X|_F = |Y|_F = 1.

        distance = min_Q |X Q - Y|_F = sqrt(2 - 2 |X^T Y|_*),   angle = arccos |X^T Y|_*,   Q orthogonal

    Both are metrics: 0 for activations alike up to shift, rotation and scale, and no detour is shorter. Activations of
    unequal widths are compared as if the narrower were padded with zero columns, which changes no singular value. With
    n < d unrelated activations can be turned onto each other to a good part: see `permutation_null`.

    Args:
        x: [..., n, d], n >= 2.
        y: [..., n, d'], the same rows.

    Returns:
        `distance` [...], float64, from 0 to sqrt(2), and `angle` [...], from 0 to pi / 2. Below 1e-7 both are rounding.
        NaN where all rows of a side are equal, or one is not finite.

    Raises:
        PicoLMError: the rows do not fit, or there are fewer than two.

    Source:
        Schoenemann 1966; as a measure of representations: Ding et al. 2021, Williams et al. 2021 (arXiv 2110.14739).
        O(n d^2 + d^3), or O(n^2 d + n^3) where n < d.
    """
    x, y = (_scaled(centred(rows)) for rows in precise_pair(x, y, least=2))
    overlap = nuclear_norm(product_spectrum(x.mT, y)).clamp(max=1.0)
    return {"distance": (2 - 2 * overlap).sqrt(), "angle": overlap.arccos()}


def _scaled(rows: Tensor) -> Tensor:
    scaled: Tensor = rows / torch.linalg.matrix_norm(rows, keepdim=True)
    return scaled


PROCRUSTES = Metric(
    "procrustes",
    "activation_pair",
    procrustes,
    (0.0, torch.pi / 2),
    "What is left between two sets of activations after the best rotation, as a distance and as an angle.",
)
