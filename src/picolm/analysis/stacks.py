"""Metrics of many matrices at once: those of equal shape are one stack, and a spectrum serves all metrics that take it.

Factors of circuits stay factors: only a metric that takes the matrix itself has the product made.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from picolm.analysis.circuits import Factors
from picolm.analysis.metric import Metric
from picolm.analysis.spectrum import Spectrum, product_spectrum, spectrum

_ELEMENTS_AT_ONCE = 2**23
"""Of a stack, products included: 64 MiB in float64."""
_LARGE = threading.Lock()
"""Held for a matrix that is larger by itself: two embeddings at once, and their copies, would fill a small machine."""


def stacked_values(
    matrices: Mapping[str, Tensor | Factors],
    others: Mapping[str, Tensor | Factors],
    metrics: Mapping[str, Sequence[Metric]],
) -> Iterator[tuple[str, Metric, str, float]]:
    """Measure matrices.

    Args:
        matrices: by label.
        others: what they are compared with, by label; metrics of pairs pass over those that have nothing.
        metrics: by label.

    Yields:
        (label, metric, its name or `name.value` where it gives several values, the value).
    """
    for labels in _alike(matrices, metrics):
        is_large = sum(_elements(matrices[label], False) for label in labels) > _ELEMENTS_AT_ONCE
        with _LARGE if is_large else nullcontext():
            found = list(_of_stack(labels, matrices, others, metrics[labels[0]]))
        yield from found


def _of_stack(
    labels: Sequence[str],
    matrices: Mapping[str, Tensor | Factors],
    others: Mapping[str, Tensor | Factors],
    metrics: Sequence[Metric],
) -> Iterator[tuple[str, Metric, str, float]]:
    own = _stacked([matrices[label] for label in labels])
    singular: Spectrum | None = None
    for one in metrics:
        if one.takes == "spectrum":
            singular = _spectrum(own) if singular is None else singular
            yield from _named(labels, one, one.function(singular))
        elif one.takes == "matrix_pair":
            for label in labels:
                if label in others:
                    pair = _matrix(matrices[label])[None], _matrix(others[label])[None]
                    yield from _named([label], one, one.function(*pair))
        else:
            yield from _named(labels, one, one.function(_matrix(own)))


def _alike(matrices: Mapping[str, Tensor | Factors], metrics: Mapping[str, Sequence[Metric]]) -> Iterator[list[str]]:
    """Labels of matrices that can be one stack, not too large."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for label, matrix in matrices.items():
        parts = (matrix.left, matrix.right) if isinstance(matrix, Factors) else (matrix,)
        kinds = [(tuple(part.shape), part.dtype) for part in parts]
        groups.setdefault((*kinds, *(one.name for one in metrics[label])), []).append(label)
    for labels in groups.values():
        first = matrices[labels[0]]
        formed = any(one.takes not in ("spectrum", "matrix_pair") for one in metrics[labels[0]])
        at_once = max(1, _ELEMENTS_AT_ONCE // _elements(first, formed))
        for start in range(0, len(labels), at_once):
            yield labels[start : start + at_once]


def _elements(matrix: Tensor | Factors, formed: bool) -> int:
    if isinstance(matrix, Tensor):
        return matrix.numel()
    product = matrix.left.shape[-2] * matrix.right.shape[-1] if formed else 0
    return max(1, matrix.left.numel() + matrix.right.numel() + product)


def _stacked(matrices: Sequence[Tensor | Factors]) -> Tensor | Factors:
    tensors = [matrix for matrix in matrices if isinstance(matrix, Tensor)]
    if tensors:
        # One alone, such as an embedding, is not copied.
        return torch.stack(tensors) if len(tensors) > 1 else tensors[0][None]
    factors = [matrix for matrix in matrices if isinstance(matrix, Factors)]
    return Factors(torch.stack([one.left for one in factors]), torch.stack([one.right for one in factors]))


def _spectrum(matrix: Tensor | Factors) -> Spectrum:
    return product_spectrum(matrix.left, matrix.right) if isinstance(matrix, Factors) else spectrum(matrix)


def _matrix(matrix: Tensor | Factors) -> Tensor:
    # Products of half-precision factors would be rounded once more.
    if isinstance(matrix, Factors):
        return Factors(matrix.left.double(), matrix.right.double()).product()
    return matrix


def _named(
    labels: Sequence[str], one: Metric, found: Tensor | Mapping[str, Tensor]
) -> Iterator[tuple[str, Metric, str, float]]:
    for name, tensor in found.items() if isinstance(found, Mapping) else (("", found),):
        full = f"{one.name}.{name}" if name else one.name
        for label, value in zip(labels, tensor.to(torch.float64).reshape(-1).tolist(), strict=True):
            yield label, one, full, value
