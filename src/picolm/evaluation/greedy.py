"""Whether a model would have gone on so by itself: scores, and whether every scored token is the likeliest one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from picolm.evaluation.batching import bucketed, padded
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.scoring import Advance, Engine, scored_places
from picolm.evaluation.trees import Passage


class Written(NamedTuple):
    """What is known about one passage."""

    log_p: FloatArray
    """Of its scored tokens in nats, [n_scored]."""
    is_greedy: bool
    """Whether each of them has the largest logit; of several largest, the one with the lowest id counts."""


def score_written(engine: Engine, passages: Sequence[Passage], advance: Advance = lambda count: None) -> list[Written]:
    """Score tokens given those before them, and compare them with what is likeliest, in one reading.

    Args:
        engine: of a causal model.
        passages: each within the model's window, with a token to score at least.
        advance: told of each batch.
    """
    found: dict[int, Written] = {}
    with engine.reading():
        for batch in bucketed([len(passage.tokens) for passage in passages], engine.budget):
            chosen = [passages[place] for place in batch]
            found |= zip(batch.tolist(), _read(engine, chosen), strict=True)
            advance(len(chosen))
    return [found[place] for place in range(len(passages))]


def _read(engine: Engine, passages: Sequence[Passage]) -> list[Written]:
    inputs = padded([passage.tokens[:-1] for passage in passages], filler=0).to(engine.device)
    places, targets = scored_places(passages, inputs.shape[1])
    found = engine.likelihood(engine.model(inputs), places, targets, wants_largest=True)
    ends = np.cumsum([passage.n_scored for passage in passages])[:-1]
    parts = zip(np.split(found.log_p, ends), np.split(found.is_largest, ends), strict=True)
    return [Written(log_p, bool(same.all())) for log_p, same in parts]
