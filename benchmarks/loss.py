"""The linear cross-entropy: chunks against whole logits, forward and backward, in time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from picolm.objective.cross_entropy import linear_cross_entropy, plain_linear_cross_entropy

# rows, width, vocabulary
SHAPES = [(4096, 128, 1024), (4096, 96, 8192), (2048, 96, 50304), (2048, 384, 50304)]
ROUNDS = 5


def run() -> list[dict[str, Any]]:
    """Time every shape in fp32 and bf16; print and return a row for each."""
    print(f"\n{'linear cross-entropy':<34} {'chunked':>14} {'plain':>14} {'ratio':>7}")
    return [_row(*shape, dtype) for shape in SHAPES for dtype in (torch.float32, torch.bfloat16)]


def _row(rows: int, width: int, vocab_size: int, dtype: torch.dtype) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=generator, requires_grad=True)
    matrix = torch.randn(vocab_size, width, generator=generator).mul_(0.1).requires_grad_()
    targets = torch.randint(0, vocab_size, (rows,), generator=generator)

    def timed(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> float:
        hidden.grad = matrix.grad = None
        started = time.perf_counter()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = function(hidden, matrix, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - started

    timed(linear_cross_entropy), timed(plain_linear_cross_entropy)
    pairs = [(timed(linear_cross_entropy), timed(plain_linear_cross_entropy)) for _ in range(ROUNDS)]
    ratio = statistics.median(plain / chunked for chunked, plain in pairs)
    chunked, plain = (1000 * statistics.median(times) for times in zip(*pairs, strict=True))
    name = f"{rows} x {width}, V {vocab_size:,}, {'fp32' if dtype == torch.float32 else 'bf16'}"
    print(f"{name:<34} {chunked:>11.0f} ms {plain:>11.0f} ms {ratio:>6.2f}x", flush=True)
    return {"shape": name, "chunked_ms": round(chunked, 1), "plain_ms": round(plain, 1), "ratio": round(ratio, 3)}
