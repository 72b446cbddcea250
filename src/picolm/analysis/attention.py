"""What attention heads look at, from their probabilities.

Shapes: H heads, T queries by T keys; leading dimensions are rows of text, layers, checkpoints. A query that may look at
one key has no choice and is not counted, by any of these: in a causal model, the first. Every value is the mean over
the queries that are counted, so that rows of equal length can be averaged.

`visible` says which keys a query may look at, [..., T, T], True: those before it and itself where it is None, for a
causal model without padding. Padding and document borders are said by it (`visible_keys`); a row of it that is all
False is a query that is not counted. PyTorch's fused kernels return no probabilities: sites named `pattern` recompute
them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.errors import PicoLMError


def visible_keys(attention_mask: Tensor, *, causal: bool = True, documents: Tensor | None = None) -> Tensor:
    """Which keys each query may look at, for patterns [B, H, T, T].

    Args:
        attention_mask: True at tokens, False at padding [B, T].
        causal: whether a query sees only what is before it and itself.
        documents: numbers [B, T]; a query sees only its own. None: the whole row.

    Returns:
        [B, 1, T, T], True where a key is visible; queries that are padding see nothing.
    """
    tokens = attention_mask.bool()
    visible = tokens[:, :, None] & tokens[:, None, :]
    if causal:
        visible = visible.tril()
    if documents is not None:
        visible = visible & (documents[:, :, None] == documents[:, None, :])
    return visible[:, None]


def attention_entropy(pattern: Tensor, *, visible: Tensor | None = None) -> dict[str, Tensor]:
    """Entropy of what a head looks at, raw and as a share of the largest that is possible.

    For a query that sees k keys with probabilities a: H = -sum_j a_j ln a_j, and H / ln k.

    Longer rows have larger raw entropies; a head that rests on the first token has a small one and still says nothing:
    read it beside `sink_mass`.

    Args:
        pattern: probabilities [..., T, T].
        visible: see above.

    Returns:
        `raw` [...], float64, nats, from 0 to ln T, and `normalised` [...], from 0 (one key) to 1 (all alike); NaN where
        no query is counted, or a probability that is counted is NaN.

    Raises:
        PicoLMError: the pattern is not square, or has probabilities where `visible` has none, or that does not fit it.

    Source:
        Ghader & Monz 2017; by head and normalised: Zhai et al. 2023 (arXiv 2303.06296) and others. O(T^2).
    """
    pattern, visible = _checked(pattern, visible)
    entropy = torch.special.entr(torch.where(visible, pattern, 0.0)).sum(-1, dtype=torch.float64)
    keys = visible.sum(-1)
    return {"raw": _mean(entropy, keys), "normalised": _mean(entropy / keys.double().log(), keys)}


def sink_mass(pattern: Tensor, *, visible: Tensor | None = None) -> Tensor:
    """Share of attention on the first key that a query may see, as a rule the token that begins the text.

    Args:
        pattern: probabilities [..., T, T].
        visible: see above.

    Returns:
        [...], float64, from 0 to 1; NaN as for `attention_entropy`.

    Raises:
        PicoLMError: as `attention_entropy`.

    Source:
        Xiao et al. 2024 (arXiv 2309.17453). O(T^2).
    """
    pattern, visible = _checked(pattern, visible)
    first = visible.to(torch.uint8).argmax(-1, keepdim=True).expand(*pattern.shape[:-1], 1)
    return _mean(pattern.gather(-1, first)[..., 0].double(), visible.sum(-1))


def attended_distance(pattern: Tensor, *, visible: Tensor | None = None) -> Tensor:
    """How far from itself a query looks, in tokens: sum_j a_ij |i - j|.

    Args:
        pattern: probabilities [..., T, T].
        visible: see above.

    Returns:
        [...], float64, from 0 to T - 1; NaN as for `attention_entropy`.

    Raises:
        PicoLMError: as `attention_entropy`.

    Source:
        Vig & Belinkov 2019 (arXiv 1906.04284). O(T^2).
    """
    pattern, visible = _checked(pattern, visible)
    places = torch.arange(pattern.shape[-1], device=pattern.device)
    distance = (places[:, None] - places).abs()
    weighted = torch.where(visible, pattern, 0.0) * distance
    return _mean(weighted.sum(-1, dtype=torch.float64), visible.sum(-1))


def own_and_previous_mass(pattern: Tensor, *, visible: Tensor | None = None) -> dict[str, Tensor]:
    """Share of attention on the query's own token (the diagonal) and on the one before it.

    A query that may not see the token before it, as after a border, counts as looking there with 0.

    Args:
        pattern: probabilities [..., T, T].
        visible: see above.

    Returns:
        `own` [...] and `previous` [...], float64, from 0 to 1; NaN as for `attention_entropy`.

    Raises:
        PicoLMError: as `attention_entropy`.

    Source:
        Clark et al. 2019 (arXiv 1906.04341). O(T^2).
    """
    pattern, visible = _checked(pattern, visible)
    seen, keys = torch.where(visible, pattern, 0.0), visible.sum(-1)
    own = seen.diagonal(dim1=-2, dim2=-1).double()
    previous = torch.zeros_like(own)
    previous[..., 1:] = seen.diagonal(-1, dim1=-2, dim2=-1)
    return {"own": _mean(own, keys), "previous": _mean(previous, keys)}


def head_distances(pattern: Tensor, *, visible: Tensor | None = None) -> Tensor:
    """How differently each two heads look: the Jensen-Shannon divergence of their probabilities, in bits.

    For a query with probabilities a and b: JS = H((a + b) / 2) - (H(a) + H(b)) / 2, H in bits.

    Args:
        pattern: probabilities [..., H, T, T] of the heads of one layer.
        visible: see above.

    Returns:
        [..., H, H], float64, symmetric, from 0 (alike) to 1 (never on the same key), 0 on the diagonal; NaN as for
        `attention_entropy`.

    Raises:
        PicoLMError: as `attention_entropy`, or the pattern has no dimension of heads.

    Source:
        Clark et al. 2019 (arXiv 1906.04341), there summed over tokens, in nats. O(H^2 T^2).
    """
    if pattern.ndim < 3:
        raise PicoLMError(f"distances between heads need patterns [..., H, T, T], not {list(pattern.shape)}")
    pattern, visible = _checked(pattern, visible)
    seen, keys = torch.where(visible, pattern, 0.0), visible.sum(-1)
    entropy = torch.special.entr(seen).sum(-1, dtype=torch.float64)
    rows = []
    # One head against all: the mixtures of all pairs at once would be H times the pattern.
    for head in range(pattern.shape[-3]):
        mixture = (seen + seen[..., head : head + 1, :, :]) / 2
        of_mixture = torch.special.entr(mixture).sum(-1, dtype=torch.float64)
        divergence = of_mixture - (entropy + entropy[..., head : head + 1, :]) / 2
        rows.append(_mean(divergence / math.log(2), keys))
    # Rounding alone can fall below 0.
    return torch.stack(rows, dim=-2).clamp(min=0.0, max=1.0)


def head_distance(pattern: Tensor, *, visible: Tensor | None = None) -> Tensor:
    """How differently a head looks from the others of its layer: its mean in `head_distances`, itself left out.

    Args:
        pattern: probabilities [..., H, T, T].
        visible: see above.

    Returns:
        [..., H], float64, from 0 to 1; NaN where there is one head, or as for `attention_entropy`.

    Raises:
        PicoLMError: as `head_distances`.
    """
    distances = head_distances(pattern, visible=visible)
    return distances.sum(-1) / (distances.shape[-1] - 1)


def _checked(pattern: Tensor, visible: Tensor | None) -> tuple[Tensor, Tensor]:
    """The pattern in float32 at least and what is visible, both of full shape [..., T, T]."""
    if pattern.ndim < 2 or pattern.shape[-1] != pattern.shape[-2]:
        raise PicoLMError(
            f"attention patterns must have all queries by all keys [..., T, T], not {list(pattern.shape)}; "
            "captured ones have with capture.positions: all"
        )
    pattern = pattern.to(torch.promote_types(pattern.dtype, torch.float32))
    if visible is None:
        visible = torch.ones(pattern.shape[-2:], dtype=torch.bool, device=pattern.device).tril()
    fits = all(mine in (1, its) for mine, its in zip(visible.shape[::-1], pattern.shape[::-1], strict=False))
    # Of other dimensions, [B, T, T] would be taken for one of heads.
    if visible.dtype != torch.bool or visible.ndim not in (2, pattern.ndim) or not fits:
        raise PicoLMError(
            f"`visible` must be booleans [T, T], or of the pattern's dimensions, each as large or 1: "
            f"{list(pattern.shape)}, not {visible.dtype} {list(visible.shape)}"
        )
    visible = visible.expand(pattern.shape)
    sums = torch.where(visible, pattern, 0.0).sum(-1)
    # As far as storing them in bfloat16 may move a sum; NaN passes, and gives NaN.
    if (((sums - 1).abs() > 0.01) & visible.any(-1)).any():
        raise PicoLMError(
            "the probabilities of a query over the keys that it may see do not sum to 1: patterns of padded rows, of "
            "rows of several documents and of bidirectional models need `visible`"
        )
    return pattern, visible


def _mean(values: Tensor, keys: Tensor) -> Tensor:
    """Mean over the queries that see two keys or more."""
    counted = keys >= 2
    return torch.where(counted, values, 0.0).sum(-1) / counted.sum(-1)


ATTENTION_ENTROPY = Metric(
    "attention_entropy",
    "pattern",
    attention_entropy,
    (0.0, float("inf")),
    "Entropy of a head's attention, in nats and as a share of that of equal attention to all visible keys.",
)
SINK_MASS = Metric("sink_mass", "pattern", sink_mass, (0.0, 1.0), "Share of a head's attention on the first token.")
ATTENDED_DISTANCE = Metric(
    "attended_distance",
    "pattern",
    attended_distance,
    (0.0, float("inf")),
    "How many tokens away a head looks, on average.",
)
OWN_AND_PREVIOUS_MASS = Metric(
    "own_and_previous_mass",
    "pattern",
    own_and_previous_mass,
    (0.0, 1.0),
    "Share of a head's attention on the token itself and on the one before it.",
)
HEAD_DISTANCE = Metric(
    "head_distance",
    "pattern",
    head_distance,
    (0.0, 1.0),
    "How differently a head looks from the others of its layer (mean Jensen-Shannon divergence, bits).",
)
