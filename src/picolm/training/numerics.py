"""Process-wide settings of PyTorch for the time of a run: determinism, threads, generators; put back afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from picolm.config import schema
from picolm.errors import PicoLMError


def choose_device(name: str, key: str = "training.device") -> torch.device:
    """Resolve the name of a device; `auto` takes a GPU where there is one.

    Args:
        name: `auto`, `cpu`, `cuda` or `mps`.
        key: what the name was given as, for errors.

    Raises:
        PicoLMError: the device asked for is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if not available.get(name):
        there = ", ".join(kind for kind, present in available.items() if present)
        raise PicoLMError(f"{key} is '{name}', but this machine offers {there} only")
    return torch.device(name)


@contextmanager
def numerics(training: schema.Training) -> Iterator[None]:
    """Set determinism and threads, and keep the caller's generators and settings as they were."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    # A module whose attribute is a property, which type checkers cannot see.
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    threads = torch.get_num_threads()
    if training.deterministic:
        # cuBLAS reads this when it starts; without it deterministic mode refuses its kernels.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng():
        try:
            torch.use_deterministic_algorithms(training.deterministic)
            # Filling fresh memory finds bugs at the price of 20 ms per 64 MB; the tests do not need it here.
            memory.fill_uninitialized_memory = False
            # Said in any case: to set a number, even the one that it is, stops MKL from choosing fewer. A run in which
            # something else sets threads for a while must be the same as one in which nothing does.
            torch.set_num_threads(training.threads or threads)
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            memory.fill_uninitialized_memory = fill
            torch.set_num_threads(threads)


def autocast(training: schema.Training, device: torch.device) -> torch.autocast:
    """The precision of a forward: bf16 matrix products over fp32 master weights, or plain fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16")
