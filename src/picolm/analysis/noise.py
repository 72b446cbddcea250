"""The gradient noise scale: at which batch size the noise of a gradient is as large as the gradient.

For gradients g_i of single sequences with mean G and covariance C, a batch of b has E |g|^2 = |G|^2 + tr C / b. The
(simple) noise scale is B = tr C / |G|^2, in sequences: far below it a batch twice as large saves almost half of the
steps, far above it none (McCandlish et al. 2018, arXiv 1812.06162). Units are what is drawn independently: sequences,
not tokens.

Estimates of tr C and |G|^2 here are unbiased, their ratio is not, and where the gradient drowns in noise |G|^2 comes
out below 0: average both over steps before dividing (`smoothed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from picolm.analysis.metric import Metric
from picolm.errors import PicoLMError


@dataclass(frozen=True, slots=True)
class Noise:
    """Estimates of the noise in a gradient.

    Attributes:
        trace: of the covariance of single sequences' gradients, tr C [...]; float64.
        signal: squared norm of the true gradient |G|^2 [...]; below 0 where there is too much noise to tell.
    """

    trace: Tensor
    signal: Tensor

    @property
    def scale(self) -> Tensor:
        """B = tr C / |G|^2 [...], NaN where the signal is not above 0."""
        return torch.where(self.signal > 0, self.trace / self.signal, torch.nan)


def noise_of_gradients(gradients: Tensor) -> Noise:
    """Noise from the gradients of single sequences, or of equal micro-batches.

    With g their mean, of n: tr C = sum_i |g_i - g|^2 / (n - 1), |G|^2 = |g|^2 - tr C / n.

    Args:
        gradients: [..., n, p], n >= 2: one gradient of a mean loss in each row. Of micro-batches of b sequences, the
            trace and the scale come out divided by b.

    Returns:
        The estimates [...], from their unbiased formulas.

    Raises:
        PicoLMError: there are fewer than two gradients.

    Source:
        McCandlish et al. 2018 (arXiv 1812.06162). O(n p).
    """
    if gradients.ndim < 2 or gradients.shape[-2] < 2:
        raise PicoLMError(f"the noise of gradients needs two or more, [..., n, p], not {list(gradients.shape)}")
    rows, n = gradients.double(), gradients.shape[-2]
    mean = rows.mean(-2)
    trace = (rows - mean[..., None, :]).square().sum((-2, -1)) / (n - 1)
    return Noise(trace=trace, signal=mean.square().sum(-1) - trace / n)


def noise_of_norms(small: Tensor, big: Tensor, *, small_batch: int, big_batch: int) -> Noise:
    """Noise from squared norms of gradients at two batch sizes, which accumulation gives for nothing.

    With s < b: |G|^2 = (b |g_b|^2 - s |g_s|^2) / (b - s), tr C = (|g_s|^2 - |g_b|^2) / (1/s - 1/b).

    Args:
        small: squared norms |g_s|^2 [...] of the mean loss's gradient over s sequences; their mean over the
            micro-batches of a step says more than one of them.
        big: |g_b|^2 [...], of the whole batch, before clipping.
        small_batch: s, in sequences.
        big_batch: b.

    Returns:
        The estimates [...], from their unbiased formulas.

    Raises:
        PicoLMError: the batch sizes are not 1 <= s < b.

    Source:
        McCandlish et al. 2018 (arXiv 1812.06162), appendix A.1. O(1).
    """
    if not 1 <= small_batch < big_batch:
        raise PicoLMError(f"the small batch must be smaller than the big one, not {small_batch} beside {big_batch}")
    small, big = small.double(), big.double()
    return Noise(
        trace=(small - big) / (1 / small_batch - 1 / big_batch),
        signal=(big_batch * big - small_batch * small) / (big_batch - small_batch),
    )


def smoothed(noises: Sequence[Noise], *, decay: float = 0.95) -> Noise:
    """Exponential moving averages of trace and signal, each by itself, step by step.

    m_t = decay m_(t-1) + (1 - decay) x_t from m_0 = 0, divided by 1 - decay^t, so that the first steps count in full.

    Args:
        noises: of successive steps, of one shape.
        decay: how much of the past is kept.

    Returns:
        The averages, with a new first dimension of steps.

    Raises:
        PicoLMError: there are no steps, or the decay is not in [0, 1).
    """
    if not noises or not 0 <= decay < 1:
        raise PicoLMError(
            f"smoothing needs one step or more and a decay from 0 to below 1, not {len(noises)} and {decay}"
        )
    parts = []
    for series in ([one.trace for one in noises], [one.signal for one in noises]):
        average, averages = torch.zeros_like(series[0]), []
        for number, value in enumerate(series, start=1):
            average = decay * average + (1 - decay) * value
            averages.append(average / (1 - decay**number))
        parts.append(torch.stack(averages))
    return Noise(*parts)


def noise_scale(gradients: Tensor) -> dict[str, Tensor]:
    """`noise_of_gradients` as values for a table.

    Args:
        gradients: [..., n, p], n >= 2.

    Returns:
        `trace`, `signal` and `scale` [...], float64.
    """
    noise = noise_of_gradients(gradients)
    return {"trace": noise.trace, "signal": noise.signal, "scale": noise.scale}


NOISE_SCALE = Metric(
    "noise_scale",
    "gradients",
    noise_scale,
    (-float("inf"), float("inf")),
    "Gradient noise: trace of its covariance, squared norm of its mean, and their ratio, a batch size in sequences.",
)
