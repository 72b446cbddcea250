"""Functional convergence: how alike two models predict, token by token, whatever their insides look like."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor

from picolm.errors import PicoLMError


def token_divergence(log_probabilities: Tensor, other: Tensor) -> Tensor:
    """KL(p || q) of the predictions at each token: sum_v p_v (ln p_v - ln q_v).

    Its mean over tokens, over a fixed set of them, says how far q (another seed, another step) is from p. It is not
    symmetric. A mean over parts of the tokens is exact, so V-wide tensors need not be held for all.

    Args:
        log_probabilities: ln p [..., V], natural logarithms that sum to 1.
        other: ln q [..., V].

    Returns:
        [...], float64, nats, from 0 up; infinite where q rules out what p does not.

    Raises:
        PicoLMError: their shapes differ, or they are not normalised.

    Source:
        Kullback & Leibler 1951. O(V) a token.
    """
    if log_probabilities.shape != other.shape or log_probabilities.ndim < 1:
        raise PicoLMError(
            "log-probabilities [..., V] of two models for the same tokens are needed, "
            f"not {list(log_probabilities.shape)} and {list(other.shape)}"
        )
    p, q = _normalised(log_probabilities), _normalised(other)
    # Where p is 0, ln p is -inf and the term 0.
    terms = torch.where(p == -torch.inf, 0.0, p.exp() * (p - q))
    return terms.sum(-1).clamp(min=0.0)


def mean_divergence(runs: Sequence[Tensor]) -> Tensor:
    """Mean `token_divergence` over all ordered pairs of runs: how far seeds are from each other, token by token.

    Over training, small models go through four phases: alike from the start, quickly more alike, apart, and, in larger
    models, slowly together again.

    Args:
        runs: for each run, log-probabilities [..., V] of the same tokens; two runs or more.

    Returns:
        [...], float64, nats, from 0 up.

    Raises:
        PicoLMError: there are fewer than two runs, or as `token_divergence`.

    Source:
        Fehlauer et al. 2025 (arXiv 2509.26643). O(R^2 V) a token.
    """
    if len(runs) < 2:
        raise PicoLMError("a divergence between runs needs two runs or more")
    pairs = list(permutations(runs, 2))
    total = token_divergence(*pairs[0])
    for first, second in pairs[1:]:
        total = total + token_divergence(first, second)
    return total / len(pairs)


def _normalised(log_probabilities: Tensor) -> Tensor:
    precise = log_probabilities.double()
    # As far as float32 may be off; NaN passes, and gives NaN.
    if (precise.logsumexp(-1).abs() > 1e-3).any():
        raise PicoLMError("log-probabilities must sum to 1 over the last dimension: take log_softmax of logits first")
    return precise
