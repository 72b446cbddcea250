"""What a causal model says at scored positions beyond the probability of their tokens: of sets, of distributions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from picolm.evaluation.batching import bucketed, padded
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.scoring import Advance, Engine, scored_places
from picolm.evaluation.trees import Passage


class Positions(NamedTuple):
    """Some scored positions, of one passage or several."""

    hidden: Tensor
    """What the model makes of all before the scored token [N, D]."""
    logits: Tensor
    """[N, V], in float32 at least."""
    before: Tensor
    """The token read last [N]."""
    targets: Tensor
    """The scored token [N]."""


Reading = Callable[[Positions], Tensor]
"""Positions to K numbers each [N, K]; called with as many positions as logits are held of at once."""


def read_positions(
    engine: Engine, passages: Sequence[Passage], reading: Reading, advance: Advance = lambda count: None
) -> list[FloatArray]:
    """Read passages, and take numbers from each scored position.

    Args:
        engine: of a causal model.
        passages: each within the model's window, as for `score_passages`, and with a scored token.
        reading: the numbers.
        advance: told of each batch.

    Returns:
        For each passage float64 [n_scored, K].
    """
    assert all(passage.first >= 1 and 0 < len(passage.tokens) - 1 <= engine.window for passage in passages)
    found: list[FloatArray] = [np.empty(0)] * len(passages)
    with engine.reading():
        for batch in bucketed([len(passage.tokens) for passage in passages], engine.budget):
            chosen = [passages[place] for place in batch]
            numbers = torch.cat([reading(some) for some in _positions(engine, chosen)]).cpu().double().numpy()
            ends = np.cumsum([passage.n_scored for passage in chosen])
            for place, own in zip(batch, np.split(numbers, ends[:-1]), strict=True):
                found[place] = own
            advance(len(chosen))
    return found


def _positions(engine: Engine, passages: Sequence[Passage]) -> Iterator[Positions]:
    # The last token is only predicted, so it need not be read.
    inputs = padded([passage.tokens[:-1] for passage in passages], filler=0)
    states = engine.model(inputs.to(engine.device)).flatten(0, 1)
    places, tokens = (torch.from_numpy(one) for one in scored_places(passages, inputs.shape[1]))
    before = inputs.flatten()[places].to(engine.device)
    places, tokens = places.to(engine.device), tokens.to(engine.device)
    for start in range(0, len(places), engine.logit_rows):
        some = slice(start, start + engine.logit_rows)
        hidden = states.index_select(0, places[some])
        logits = F.linear(hidden, engine.model.output_matrix)
        precise = logits.float() if logits.dtype.itemsize < 4 else logits
        yield Positions(hidden, precise, before[some], tokens[some])
