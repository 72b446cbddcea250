"""Features of the units of a text (its words, or the whole of it): hidden states of their tokens, and no logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray, bucketed, padded
from picolm.evaluation.scoring import Engine
from picolm.model.interface import LanguageModel

Readout = Literal["first", "last", "mean"]
"""Which hidden states of a unit's tokens are its feature. A causal model has read all of a unit at its last token only;
at the first it has to say what the unit is before it has seen the rest."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """As much of a text as a model reads at once.

    Attributes:
        tokens: int64 [T], with the token that begins a text in front where the task wants it.
        units: numbers of the units of the text that are read in this piece, int64 [U'].
        firsts: place in `tokens` of the first token of each, int64 [U'].
        lasts: place of its last token, which counts, int64 [U'].
    """

    tokens: IntArray
    units: IntArray
    firsts: IntArray
    lasts: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A text with labels.

    Attributes:
        pieces: several where the text is longer than the window; each unit is read in exactly one of them.
        labels: of all units, int64 [U].
    """

    pieces: tuple[Piece, ...]
    labels: IntArray

    @property
    def n_tokens(self) -> int:
        """Tokens that are read."""
        return sum(len(piece.tokens) for piece in self.pieces)


def read_pieces(model: LanguageModel, pieces: Sequence[Piece], readout: Readout, device: torch.device) -> Tensor:
    """Read pieces in one batch, with gradient where that is enabled.

    Args:
        model: on `device`.
        pieces: filled up at their ends to one length.
        readout: of the tokens of each unit.
        device: where the model is.

    Returns:
        The features of the units in the order of the pieces, [sum of U', D].
    """
    inputs = padded([piece.tokens for piece in pieces], filler=0)
    width = inputs.shape[1]
    lengths = np.array([len(piece.tokens) for piece in pieces])
    real = None
    # Behind the text, filling is hidden from a causal model by causality alone.
    if model.config.attention != "causal" and lengths.min() < width:
        real = torch.from_numpy(np.arange(width) < lengths[:, None]).to(device)
    hidden: Tensor = model(inputs.to(device), attention_mask=real).flatten(0, 1)
    firsts = np.concatenate([row * width + piece.firsts for row, piece in enumerate(pieces)])
    lasts = np.concatenate([row * width + piece.lasts for row, piece in enumerate(pieces)])
    if readout != "mean":
        return hidden.index_select(0, torch.from_numpy(firsts if readout == "first" else lasts).to(device))
    counts = lasts - firsts + 1
    units = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(len(units)) - np.repeat(np.cumsum(counts) - counts, counts) + firsts[units]
    chosen = hidden.index_select(0, torch.from_numpy(places).to(device))
    sums = chosen.new_zeros(len(counts), chosen.shape[1])
    sums = sums.index_add(0, torch.from_numpy(units).to(device), chosen)
    return sums / torch.from_numpy(counts).to(sums)[:, None]


def begins(examples: Sequence[Example]) -> IntArray:
    """Where the units of each example begin when the units of all stand in one list, and where they end, [N + 1]."""
    return np.concatenate([[0], np.cumsum([len(example.labels) for example in examples])]).astype(np.int64)


def feature_dtype(engine: Engine) -> torch.dtype:
    """The precision of features: the model's own, float32 at least."""
    return torch.promote_types(engine.model.output_matrix.dtype, torch.float32)


def features(engine: Engine, examples: Sequence[Example], readout: Readout) -> Tensor:
    """Read the units of all examples, in batches of pieces of similar length.

    Args:
        engine: its model is read as it is.
        examples: in any order.
        readout: of the tokens of each unit.

    Returns:
        [units of all examples, D] in the order of `begins`, on the engine's device and free of any graph.

    Raises:
        PicoLMError: a feature is not finite.
    """
    starts = begins(examples)
    pieces = [piece for example in examples for piece in example.pieces]
    owners = [number for number, example in enumerate(examples) for _ in example.pieces]
    shape, dtype = (int(starts[-1]), engine.model.config.d_model), feature_dtype(engine)
    with torch.inference_mode(False):
        found = torch.empty(shape, dtype=dtype, device=engine.device)
    with engine.reading():
        for batch in bucketed([len(piece.tokens) for piece in pieces], engine.budget):
            read = read_pieces(engine.model, [pieces[place] for place in batch], readout, engine.device)
            rows = np.concatenate([starts[owners[place]] + pieces[place].units for place in batch])
            found[torch.from_numpy(rows).to(engine.device)] = read.to(found.dtype)
    if not bool(torch.isfinite(found).all()):
        raise PicoLMError("the model gives a hidden state that is not finite: its weights are broken")
    return found
