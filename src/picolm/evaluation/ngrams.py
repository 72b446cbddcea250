"""What the training tokens say of a token without its context, and with the one token before it.

Language models pass on their way by these references: first all tokens are alike to them, then frequent ones are
likelier, then those that follow the last token (Chang & Bergen 2022; Chang, Tu & Bergen 2024).

The unigram adds one to each count: p1(v) = (c(v) + 1) / (N + V), as the control of minimal pairs. The bigram is
interpolated Kneser-Ney (Kneser & Ney 1995; Chen & Goodman 1999), in which a token that nothing followed yet is as
likely as it stands behind many different ones:

    p2(v | u) = max(c(u v) - d, 0) / c(u .) + b(u) q(v)        b(u) = d n(u .) / c(u .), 1 where nothing followed u
    q(v)      = (n(. v) + 1) / (n(. .) + V)                    n counts different bigrams
    d         = n1 / (n1 + 2 n2)                               of n1 bigrams that stand once, n2 that stand twice
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from picolm.data.split import Split
from picolm.evaluation.batching import IntArray
from picolm.evaluation.likelihood import FloatArray

_BLOCK = 2**20
_FEWEST_BLOCKS = 64
"""A corpus is often sorted by domain: a sample must see all of it."""
_USUAL_DISCOUNT = 0.5
"""Where no bigram stands once: so little text that any will do."""


@dataclass(frozen=True, slots=True)
class NGrams:
    """Unigram and bigram.

    Attributes:
        counts: of tokens, int64 [V].
        starts: where the bigrams that begin with a token begin, int64 [V + 1].
        seconds: the second tokens of all bigrams that were seen, ascending behind each first one, int64 [M].
        times: how often each was seen, int64 [M].
    """

    counts: IntArray
    starts: IntArray
    seconds: IntArray
    times: IntArray

    @classmethod
    def of_training(cls, split: Split, vocab_size: int, most: int) -> NGrams:
        """Count the training tokens of a run, separators included.

        Args:
            split: the tokens.
            vocab_size: V.
            most: count about so many, in blocks that are spread evenly; 0: all.
        """
        counts, keys, times = np.zeros(vocab_size, dtype=np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
        for start, stop in _blocks(split.n_tokens, most):
            # One token more: the bigram that reaches over the end of the block.
            tokens = split.tokens(start, min(stop + 1, split.n_tokens))
            counts += np.bincount(tokens[: stop - start], minlength=vocab_size)
            new, often = np.unique(tokens[:-1] * vocab_size + tokens[1:], return_counts=True)
            keys, places = np.unique(np.concatenate([keys, new]), return_inverse=True)
            times = np.bincount(places, weights=np.concatenate([times, often])).astype(np.int64)
        starts = np.searchsorted(keys, np.arange(vocab_size + 1) * vocab_size)
        return cls(counts, np.asarray(starts, dtype=np.int64), keys % vocab_size, times)

    @property
    def unigram(self) -> FloatArray:
        """p1, float64 [V]."""
        return np.asarray((self.counts + 1) / (self.counts.sum() + len(self.counts)))

    @property
    def continuation(self) -> FloatArray:
        """The bigram's lower order q, float64 [V]."""
        behind = np.bincount(self.seconds, minlength=len(self.counts))
        return np.asarray((behind + 1) / (len(self.seconds) + len(self.counts)))

    @property
    def discount(self) -> float:
        """What each bigram gives up, d, above 0 and up to 1."""
        once, twice = int((self.times == 1).sum()), int((self.times == 2).sum())
        return once / (once + 2 * twice) if once else _USUAL_DISCOUNT

    @property
    def backoff(self) -> FloatArray:
        """The weight of the lower order behind each token, b, float64 [V]."""
        followed, kinds = self._followed(), np.diff(self.starts)
        return np.asarray(np.where(followed > 0, self.discount * kinds / np.maximum(followed, 1), 1.0))

    def unigram_surprisal(self, tokens: IntArray) -> FloatArray:
        """-log p1 of tokens [N] in nats."""
        return np.asarray(-np.log(self.unigram[tokens]))

    def bigram_surprisal(self, before: IntArray, tokens: IntArray) -> FloatArray:
        """-log p2 of tokens [N] behind others [N] in nats."""
        vocab_size = len(self.counts)
        keys, wanted = self._firsts() * vocab_size + self.seconds, before * vocab_size + tokens
        places = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        seen = keys[places] == wanted if len(keys) else np.zeros(len(wanted), dtype=bool)
        direct = np.where(seen, self._direct()[places] if len(keys) else 0.0, 0.0)
        return np.asarray(-np.log(direct + self.backoff[before] * self.continuation[tokens]))

    def bigram_entropies(self) -> FloatArray:
        """Entropy of p2 behind each token in nats, float64 [V]; over what was not seen behind it in closed form."""
        q, b, firsts = self.continuation, self.backoff, self._firsts()
        log_b = np.log(b)
        lower = b[firsts] * q[self.seconds]
        whole = self._direct() + lower
        seen = whole * np.log(whole) - lower * (log_b[firsts] + np.log(q[self.seconds]))
        unseen = b * (log_b + (q * np.log(q)).sum())
        return np.asarray(-(np.bincount(firsts, weights=seen, minlength=len(b)) + unseen))

    def expected_rows(self, matrix: Tensor) -> Tensor:
        """Sum over v of p2(v | u) W_v for each u: with a hidden state's product, the logit that the bigram expects.

        Args:
            matrix: an output matrix W [V, D].

        Returns:
            [V, D] in float64, on the CPU.
        """
        rows = matrix.detach().cpu().double()
        places = torch.from_numpy(np.stack([self._firsts(), self.seconds]))
        shape, values = (len(rows), len(rows)), torch.from_numpy(self._direct())
        direct = torch.sparse_coo_tensor(places, values, shape, check_invariants=True, is_coalesced=True)
        lower = torch.from_numpy(self.backoff)[:, None] * (torch.from_numpy(self.continuation) @ rows)
        found: Tensor = torch.sparse.mm(direct, rows) + lower
        return found

    def _followed(self) -> IntArray:
        """How often anything stood behind each token, c(u .) [V]."""
        return np.bincount(self._firsts(), weights=self.times, minlength=len(self.counts)).astype(np.int64)

    def _firsts(self) -> IntArray:
        """The first tokens of all bigrams that were seen [M]."""
        return np.repeat(np.arange(len(self.counts)), np.diff(self.starts))

    def _direct(self) -> FloatArray:
        """What is left of the share of each bigram behind its first token, (c - d) / c(u .) [M]."""
        return np.asarray((self.times - self.discount) / self._followed()[self._firsts()])


def _blocks(n_tokens: int, most: int) -> Iterator[tuple[int, int]]:
    """Spans of the stream, all of it or about `most` tokens spread evenly."""
    starts: npt.NDArray[np.int64] = np.arange(0, n_tokens, _BLOCK)
    if 0 < most < n_tokens:
        size = min(_BLOCK, max(1, most // _FEWEST_BLOCKS))
        starts = np.unique(np.linspace(0, n_tokens - size, max(1, most // size)).astype(np.int64))
        yield from ((int(start), int(start) + size) for start in starts)
        return
    yield from ((int(start), min(int(start) + _BLOCK, n_tokens)) for start in starts)
