"""The plain twin: the same parameters and the same numbers, in a form that can be differentiated twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from picolm.objective.cross_entropy import plain_losses


@contextmanager
def plain_twin() -> Iterator[None]:
    """Run what is inside with math attention, plain losses and nothing compiled.

    Fused attention and the chunked loss compute a gradient but not the gradient's gradient. Hessian products, exact
    meta-gradients and `torch.func` need this twin. Forward and backward must both be inside.
    """
    token = plain_losses.set(True)
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        plain_losses.reset(token)
