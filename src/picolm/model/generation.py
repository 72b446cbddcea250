"""Tokens from a causal model, one at a time, for one prompt or many at once.

What a row becomes depends on its own prompt, the seed and its key: never on the rows beside it, on how many they are,
or on whether keys and values were kept. A model looks at the last `max_length` tokens only. Up to that length what it
has read is cached. Beyond it every token moves the window, and with the window each of its hidden states: nothing read
before can serve, so the window is read anew for each token, as slow as it is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.model.cache import KeyValueCache
from picolm.model.interface import LanguageModel
from picolm.model.transformer import Transformer
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
        # Near zero, a temperature makes differences infinite: their tokens then have probability 0.
        with np.errstate(over="ignore"):
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

    def draw(self, logits: npt.NDArray[np.float64], seed: int, key: Key, number: int) -> int:
        """Draw the token with this number of a text, given its logits [V]: a function of these four alone."""
        edges = np.cumsum(self.probabilities(logits))
        drawn = generator(seed, "sampling", key, number).random() * edges[-1]
        return int(np.searchsorted(edges, drawn, side="right"))


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
        PicoLMError: the model is bidirectional, so it has no next token; or the prompt is empty.
    """
    rows = _rows([prompt], [key])
    for _, token in _draws(
        model, rows, max_tokens=max_tokens, sampling=sampling, seed=seed, stop=stop, vocab_size=vocab_size
    ):
        yield token


def generate_batch(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    stop: int,
    keys: Sequence[Key] | None = None,
    vocab_size: int | None = None,
    ended: Callable[[int, Sequence[int]], bool] | None = None,
) -> list[list[int]]:
    """Continue several prompts at once; each becomes what `generate` makes of it alone.

    Args:
        model: a causal model.
        prompts: token ids of each, at least one; they may differ in length.
        max_tokens: tokens to add to each at most.
        sampling: how each token is drawn.
        seed: the sampling seed.
        stop: the token that ends a text; it is not given back.
        keys: one for each prompt; None: 0 for all, so that equal prompts become equal texts.
        vocab_size: entries of the tokenizer, where the output matrix has more rows; those are never drawn.
        ended: asked after each token, with the number of the prompt and all ids added to it: is the text complete?

    Returns:
        The ids added to each prompt.

    Raises:
        PicoLMError: the model is bidirectional, so it has no next token; or a prompt is empty.
    """
    rows = _rows(prompts, [0] * len(prompts) if keys is None else keys)
    added: list[list[int]] = [[] for _ in prompts]
    for row, token in _draws(
        model, rows, max_tokens=max_tokens, sampling=sampling, seed=seed, stop=stop, vocab_size=vocab_size
    ):
        added[row.number].append(token)
        row.is_complete = ended is not None and ended(row.number, added[row.number])
    return added


@dataclass(slots=True, eq=False)
class _Row:
    """A text that grows."""

    number: int
    ids: list[int]
    key: Key
    added: int = 0
    is_complete: bool = False


def _rows(prompts: Sequence[Sequence[int]], keys: Sequence[Key]) -> list[_Row]:
    if not all(prompts):
        raise PicoLMError("a prompt must hold at least one token: begin with the separator to start a new document")
    return [_Row(number, list(ids), key) for number, (ids, key) in enumerate(zip(prompts, keys, strict=True))]


def _draws(
    model: LanguageModel,
    rows: list[_Row],
    *,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    stop: int,
    vocab_size: int | None,
) -> Iterator[tuple[_Row, int]]:
    """Draw a token for each row in turn until all have ended; whoever receives one may say that its row is complete."""
    if model.config.attention != "causal":
        raise PicoLMError("a bidirectional model cannot generate text: it was not trained to predict the next token")
    was_training = model.training
    model.eval()
    try:
        reader = _Reader(model, max_tokens)
        for number in range(max_tokens):
            # A row that has ended leaves the batch.
            rows = [row for row in rows if not row.is_complete]
            if not rows:
                return
            logits = reader.next_logits(rows)[:, :vocab_size].cpu().double().numpy()
            for row, its_logits in zip(rows, logits, strict=True):
                token = sampling.draw(its_logits, seed, row.key, number)
                if token == stop:
                    row.is_complete = True
                    continue
                row.ids.append(token)
                yield row, token
    finally:
        model.train(was_training)


class _Reader:
    """Next-token logits of rows that grow by one token from call to call; rows may leave, none may come."""

    def __init__(self, model: LanguageModel, max_tokens: int) -> None:
        self._model = model
        self._limit = model.config.max_length
        self._max_tokens = max_tokens
        self._cache: KeyValueCache | None = None
        self._cached: list[_Row] = []

    @torch.no_grad()
    def next_logits(self, rows: Sequence[_Row]) -> Tensor:
        """Return the logits [B, V] of what follows each row."""
        model = self._model
        within = [row for row in rows if len(row.ids) <= self._limit] if isinstance(model, Transformer) else []
        beyond = [row for row in rows if row not in within]
        hidden = []
        if isinstance(model, Transformer) and within:
            hidden.append(self._recall(model, within))
        if beyond:
            hidden.append(self._read_anew([row.ids[-self._limit :] for row in beyond]))
        order = [[*within, *beyond].index(row) for row in rows]
        return model.logits(torch.cat(hidden)[order])

    def _recall(self, model: Transformer, rows: list[_Row]) -> Tensor:
        """Hidden states [B, D] at the ends of rows that fit into the model, by way of the cache."""
        if self._cache is None:
            lengths = [len(row.ids) for row in rows]
            capacity = min(self._limit, max(lengths) + self._max_tokens)
            self._cache, self._cached = KeyValueCache(model.config.n_layers, lengths, capacity), rows
            tokens = self._tensor(_filled([row.ids for row in rows], 0))
            hidden: Tensor = model(tokens, cache=self._cache)
            return hidden[range(len(rows)), [length - 1 for length in lengths]]
        if rows != self._cached:
            self._cache.keep([self._cached.index(row) for row in rows])
            self._cached = rows
        hidden = model(self._tensor([row.ids[-1:] for row in rows]), cache=self._cache)
        return hidden[:, 0]

    def _read_anew(self, contexts: list[list[int]]) -> Tensor:
        """Hidden states [B, D] at the ends of contexts, without any memory of them."""
        mask = None
        if len(set(map(len, contexts))) > 1:
            mask = self._tensor(_filled([[True] * len(context) for context in contexts], False))
        hidden: Tensor = self._model(self._tensor(_filled(contexts, 0)), attention_mask=mask)
        return hidden[range(len(contexts)), [len(context) - 1 for context in contexts]]

    def _tensor(self, values: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(values, device=self._model.output_matrix.device)


def _filled(rows: Sequence[Sequence[int]], filling: int) -> list[list[int]]:
    """Rows of one length, filled up at their ends."""
    longest = max(map(len, rows))
    return [[*row, *[filling] * (longest - len(row))] for row in rows]
