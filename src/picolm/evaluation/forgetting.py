"""How often what a model had learned is lost again (Toneva et al. 2019, of single tokens instead of images)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picolm.evaluation.batching import IntArray


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What became of each of N tokens over S checkpoints.

    Attributes:
        learned_at: the first checkpoint at which the token is known, its place from 0; -1: never. int64 [N].
        events: how often it is known at a checkpoint and not at the next one, int64 [N].
        relearned: how often it is not known at a checkpoint and known at the next one, after it was known before.
    """

    learned_at: IntArray
    events: IntArray
    relearned: IntArray

    @property
    def unforgettable(self) -> npt.NDArray[np.bool_]:
        """Known at some checkpoint, and at every one after it, bool [N]."""
        return np.asarray((self.learned_at >= 0) & (self.events == 0))


def forgetting(known: npt.NDArray[np.bool_]) -> Forgetting:
    """Count learning and forgetting events.

    What happens between two checkpoints is not seen, so the counts grow with the number of checkpoints: compare runs
    that were asked at the same steps.

    Args:
        known: at each checkpoint, in order, bool [S, N]: `trajectories.right` (the token is the likeliest one), or
            `trajectories.surprisal < threshold`.
    """
    assert known.ndim == 2 and len(known)
    lost, gained = known[:-1] & ~known[1:], ~known[:-1] & known[1:]
    before = np.logical_or.accumulate(known, axis=0)[:-1]
    return Forgetting(
        learned_at=np.where(known.any(axis=0), known.argmax(axis=0), -1).astype(np.int64),
        events=lost.sum(axis=0, dtype=np.int64),
        relearned=(gained & before).sum(axis=0, dtype=np.int64),
    )
