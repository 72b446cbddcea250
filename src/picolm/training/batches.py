"""Views of the coming steps, built ahead on other threads."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from picolm.data.rows import Rows
from picolm.seams import Formulation, IntArray, Plan, Sequences, View


class Batches:
    """The views of the steps from `first` to `last`; what a step holds depends on nothing but the step.

    To be closed, so that its threads end with the loop.
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
        self._ahead: deque[Future[tuple[View, ...]]] = deque()
        self._asked = first
        self._threads = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="picolm-batches")

    def close(self) -> None:
        """End the threads; what is begun is thrown away."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def take(self, step: int) -> tuple[View, ...]:
        """The views of a step; those of the next ones are begun, as far as the plan's horizon allows.

        Steps are taken in order, each after what may change its rows.
        """
        assert step == self._asked - len(self._ahead), "steps are taken in order"
        limit = max(min(step + 1 + self.prefetch, self.last, self.plan.horizon(step)), step + 1)
        while self._asked < limit:
            self._ahead.append(self._threads.submit(self.build, self._asked))
            self._asked += 1
        return self._ahead.popleft().result()

    def build(self, step: int) -> tuple[View, ...]:
        """The views of one step."""
        views = self.formulation.views(self.sequences(self.plan.rows(step), step), measure=False)
        return tuple(view.pin() for view in views) if self.pin else views

    def sequences(self, ids: IntArray, step: int) -> Sequences:
        """Rows of the training split as they lie in the data."""
        return sequences_of(self.rows, ids, step)


def sequences_of(rows: Rows, ids: IntArray, step: int) -> Sequences:
    """Some of the training split's rows as a step draws them."""
    tokens = rows.read(ids)
    return Sequences(
        tokens=tokens,
        valid=np.full(len(ids), tokens.shape[1], dtype=np.int64),
        ids=ids,
        stream="train",
        step=step,
        documents=rows.read_documents(ids),
        tags=rows.read_tags(ids),
    )
