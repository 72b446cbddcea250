"""How the entries of a matrix are distributed: whether a few carry most of it.

All look at absolute values and are blind to scale. An entry that is not finite makes the value NaN.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.analysis.spectrum import sides


def gini(matrix: Tensor) -> Tensor:
    """Gini index of the absolute entries: sum_i (2 i - n - 1) x_(i) / (n sum_i x_i), x_(1) <= ... <= x_(n).

    Args:
        matrix: [..., m, n]; there are n = m n entries.

    Returns:
        [...], float64, from 0 (all alike) to 1 - 1 / n (one entry has it all); of Gaussian noise sqrt(2) - 1 = 0.4142.
        NaN for a zero matrix.

    Raises:
        PicoLMError: the matrix is empty.

    Source:
        Hurley & Rickard 2009 (arXiv 0811.4706). O(m n log(m n)); ranks are float64, as half precision cannot tell them
        apart (256 and 257 are one number in bfloat16).
    """
    ordered = _ascending(_entries(matrix))
    n = ordered.shape[-1]
    ranks = torch.arange(1, n + 1, dtype=torch.float64, device=matrix.device)
    return (ordered @ (2 * ranks - n - 1)) / (n * ordered.sum(-1))


def hoyer(matrix: Tensor) -> Tensor:
    """Hoyer sparsity: (sqrt(n) - |x|_1 / |x|_2) / (sqrt(n) - 1).

    Args:
        matrix: [..., m, n]; there are n = m n entries.

    Returns:
        [...], float64, from 0 (all alike) to 1 (one entry has it all); of Gaussian noise 1 - sqrt(2 / pi) = 0.2021.
        NaN for a zero matrix, and for a single entry.

    Raises:
        PicoLMError: the matrix is empty.

    Source:
        Hoyer 2004 (JMLR 5). O(m n).
    """
    values = _relative(_entries(matrix).double())
    root = values.shape[-1] ** 0.5
    ratio = values.sum(-1) / torch.linalg.vector_norm(values, dim=-1)
    index: Tensor = (root - ratio) / (torch.full_like(ratio, root) - 1)
    return index


def sparsity(matrix: Tensor, *, epsilon: float = 0.01) -> Tensor:
    """Share of entries that are nothing beside the others: |x| <= epsilon * sqrt(mean x^2).

    An absolute bound would mean another thing in each layer.

    Args:
        matrix: [..., m, n].
        epsilon: how small is nothing.

    Returns:
        [...], float64, from 0 to 1; of Gaussian noise erf(epsilon / sqrt(2)) = 0.0080. NaN for a zero matrix.

    Raises:
        PicoLMError: the matrix is empty.

    Source:
        A plain definition. O(m n).
    """
    values = _relative(_entries(matrix).double())
    rms = values.square().mean(-1, keepdim=True).sqrt()
    share = (values <= epsilon * rms).double().mean(-1)
    return torch.where(rms[..., 0].isfinite(), share, torch.nan)


def _entries(matrix: Tensor) -> Tensor:
    """Absolute entries [..., m n], in float32 at least."""
    sides(matrix)
    return matrix.to(torch.promote_types(matrix.dtype, torch.float32)).flatten(-2).abs()


def _relative(entries: Tensor) -> Tensor:
    # So that no square of a tiny or huge number decides; a zero matrix becomes 0 / 0, NaN.
    return entries / entries.amax(-1, keepdim=True)


def _ascending(entries: Tensor) -> Tensor:
    """Sorted entries, float64."""
    if entries.device.type == "cpu":
        # NumPy sorts values alone, thirty times as fast as torch, which sorts their places along.
        return torch.from_numpy(np.sort(entries.detach().numpy(), axis=-1)).double()
    return entries.sort(-1).values.double()


GINI = Metric("gini", "matrix", gini, (0.0, 1.0), "Gini index of the absolute entries; 0: all alike.")
HOYER = Metric("hoyer", "matrix", hoyer, (0.0, 1.0), "Hoyer sparsity of the entries; 0: all alike, 1: one has it all.")
SPARSITY = Metric("sparsity", "matrix", sparsity, (0.0, 1.0), "Share of entries below 1 % of their root mean square.")
