"""Views of the coming steps, built ahead on other threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from picolm.data.rows import Rows
from picolm.seams import Formulation, Plan, Sequences, View


class Batches:
    """Iterates over (step, views) from `first` to `last`; what a step holds depends on nothing but the step.

    Use it as a context manager, so that its threads end with the loop.
    """

    def __init__(
        self,
        plan: Plan,
        rows: Rows,
        formulation: Formulation,
        *,
        first: int,
        last: int,
        prefetch: int,
        workers: int,
        pin: bool,
    ) -> None:
        """Prepare to draw.

        Args:
            plan: which rows each step draws.
            rows: where they are read.
            formulation: how they become views.
            first: the first step.
            last: the step after the last.
            prefetch: how many steps may be built ahead, as far as the plan's horizon allows.
            workers: threads that build.
            pin: whether views are put into page-locked memory, for a GPU.
        """
        self.plan, self.rows, self.formulation = plan, rows, formulation
        self.first, self.last, self.prefetch, self.pin = first, last, prefetch, pin
        self._threads = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="picolm-batches")

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[tuple[int, tuple[View, ...]]]:
        ahead: deque[Future[tuple[View, ...]]] = deque()
        asked = self.first
        for step in range(self.first, self.last):
            limit = min(step + 1 + self.prefetch, self.last, max(self.plan.horizon(step), step + 1))
            while asked < limit:
                ahead.append(self._threads.submit(self.build, asked))
                asked += 1
            yield step, ahead.popleft().result()

    def build(self, step: int) -> tuple[View, ...]:
        """The views of one step."""
        ids = self.plan.rows(step)
        tokens = self.rows.read(ids)
        valid = np.full(len(ids), tokens.shape[1], dtype=np.int64)
        sequences = Sequences(
            tokens=tokens,
            valid=valid,
            ids=ids,
            stream="train",
            step=step,
            documents=self.rows.read_documents(ids),
            tags=self.rows.read_tags(ids),
        )
        views = self.formulation.views(sequences, measure=False)
        return tuple(view.pin() for view in views) if self.pin else views
