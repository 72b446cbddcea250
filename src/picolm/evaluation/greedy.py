"""Whether a model would have gone on so by itself: scores, and whether every scored token is the likeliest one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from picolm.evaluation.batching import bucketed, padded
from picolm.evaluation.scoring import Advance, Engine, FloatArray
from picolm.evaluation.trees import Passage

_LOGITS_AT_ONCE = 2**22


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
    hidden = engine.model(padded([passage.tokens[:-1] for passage in passages], filler=0).to(engine.device))
    counts = [passage.n_scored for passage in passages]
    # Token t is predicted at place t - 1.
    scored = [row[p.first - 1 : len(p.tokens) - 1] for row, p in zip(hidden, passages, strict=True)]
    targets = torch.from_numpy(np.concatenate([p.tokens[p.first :] for p in passages])).to(engine.device)
    rows = max(1, _LOGITS_AT_ONCE // len(engine.model.output_matrix))
    log_ps, likeliest = [], []
    for some, wanted in zip(torch.split(torch.cat(scored), rows), torch.split(targets, rows), strict=True):
        logits = engine.model.logits(some)
        precise = logits.float() if logits.dtype.itemsize < 4 else logits
        log_ps.append(precise.log_softmax(-1).gather(1, wanted[:, None])[:, 0].double())
        likeliest.append(precise.argmax(-1) == wanted)
    parts = zip(*(torch.split(torch.cat(own).cpu(), counts) for own in (log_ps, likeliest)), strict=True)
    return [Written(log_p.numpy(), bool(same.all())) for log_p, same in parts]
