"""Text from a causal model, one token at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.interface import LanguageModel
from picolm.randomness import Key, generator


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn: temperature first, then the k likeliest, then the nucleus (Holtzman et al. 2020)."""

    temperature: float = 1.0
    """Logits are divided by it; 0 takes the likeliest token."""
    top_k: int = 0
    """Only the k likeliest tokens stay; 0: all."""
    top_p: float = 1.0
    """Only the smallest set of likeliest tokens whose probability reaches this stays."""

    @classmethod
    def of(cls, samples: schema.Samples) -> Sampling:
        """The sampling that a configuration asks for."""
        return cls(samples.temperature, samples.top_k, samples.top_p)

    def probabilities(self, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The distribution [V] that a token is drawn from, given its logits [V]."""
        if self.temperature == 0:
            kept = np.zeros_like(logits)
            kept[int(logits.argmax())] = 1.0
            return kept
        # Ranked by (logit, id), so that ties are broken the same way everywhere.
        order = np.argsort(-logits, kind="stable")
        scaled = (logits - logits.max()) / self.temperature
        ranked = np.exp(scaled[order])
        ranked /= ranked.sum()
        if self.top_k:
            ranked[self.top_k :] = 0.0
            ranked /= ranked.sum()
        # A token stays while those before it do not yet reach top_p: the likeliest always does.
        before = np.cumsum(ranked) - ranked
        ranked[before >= self.top_p] = 0.0
        probabilities: npt.NDArray[np.float64] = np.empty_like(ranked)
        probabilities[order] = ranked / ranked.sum()
        return probabilities


def generate(
    model: LanguageModel,
    prompt: Sequence[int],
    *,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    stop: int,
    key: Key = 0,
    vocab_size: int | None = None,
) -> Iterator[int]:
    """Continue a prompt. Draw number n depends on (seed, key, n) and the distribution alone.

    Args:
        model: a causal model.
        prompt: token ids, at least one; only the last `max_length` are looked at.
        max_tokens: tokens to add at most.
        sampling: how each is drawn.
        seed: the sampling seed.
        stop: the token that ends the text; it is not given back.
        key: tells apart several texts of one seed.
        vocab_size: entries of the tokenizer, where the output matrix has more rows; those are never drawn.

    Yields:
        The added ids, as they are drawn.

    Raises:
        PicoLMError: the model is bidirectional, so it has no next token.
    """
    if model.config.attention != "causal":
        raise PicoLMError("a bidirectional model cannot generate text: it was not trained to predict the next token")
    ids = list(prompt)
    device = model.output_matrix.device
    was_training = model.training
    model.eval()
    try:
        for number in range(max_tokens):
            context = torch.tensor([ids[-model.config.max_length :]], device=device)
            with torch.no_grad():
                logits = model.logits(model(context)[:, -1])[0, :vocab_size]
            probabilities = sampling.probabilities(logits.double().cpu().numpy())
            edges = np.cumsum(probabilities)
            drawn = generator(seed, "sampling", key, number).random() * edges[-1]
            token = int(np.searchsorted(edges, drawn, side="right"))
            if token == stop:
                return
            ids.append(token)
            yield token
    finally:
        model.train(was_training)
