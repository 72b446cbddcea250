"""Several processes that train one model: the same global batch, cut into shares, and one sum of their gradients.

Each rank builds the whole batch and computes its share; sums go over all ranks before anything looks at a gradient. So
a seam sees the same numbers on every rank, whatever terms a step has and whoever wrote the gradients. (PyTorch's
`DistributedDataParallel` reduces from within the backward of one forward. Here a step has as many forwards as views and
micro-batches, some of whose parameters may idle.)
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# Its functions keep, as a default argument, the group that there is when they are loaded. Loaded later (optimizers do
# that) they would keep the group's threads alive beyond the interpreter, which now and then ends in an abort.
import torch.distributed.nn
from torch import Tensor

BUCKET_BYTES = 2**25
"""Gradients are summed in pieces of about this size: one message for many small ones, and no second copy of all."""


_PATIENCE = timedelta(days=1)
"""How long a rank waits for another: the first one prepares data and evaluates alone, which may take hours."""


class Ranks:
    """The processes of a run, seen from one of them. With one process nothing is sent."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run; the others only compute."""
        return self.rank == 0

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add up tensors of all ranks, in place; they must have the same shapes, in the same order, on each."""
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            start = 0
            for tensor in bucket:
                tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
                start += tensor.numel()

    def share_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Give a parameter that has a gradient on another rank one of zeros, so that all ranks sum the same ones.

        A term may leave a parameter out for the rows of one rank. One that idles on all ranks keeps none.
        """
        if self.size == 1:
            return
        present = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
        dist.all_reduce(present, dist.ReduceOp.MAX)
        for parameter, is_present in zip(parameters, present.tolist(), strict=True):
            if is_present and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def tell(self, value: Any) -> Any:
        """What the first rank says; JSON values."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def wait(self) -> None:
        """Wait until every rank has come here."""
        if self.size > 1:
            dist.barrier()

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """Let the first rank do something (prepare data) that the others then find done."""
        if not self.is_first:
            self.wait()
        try:
            yield
        finally:
            if self.is_first:
                self.wait()


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the processes that `torchrun` started, if it did.

    They stay together until they end, so that one may make several runs: they could not join a second time.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Ranks()
        return
    # NCCL would want a GPU of its own for each; gloo carries both where there are none.
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=_PATIENCE)
    else:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    atexit.register(dist.destroy_process_group)
    yield Ranks(dist.get_rank(), size)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        n_bytes = tensor.numel() * tensor.element_size()
        if bucket and (size + n_bytes > BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += n_bytes
    if bucket:
        yield bucket
