"""Unigram and bigram against the formulas written out, and their divergences against whole distributions."""

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from picolm.evaluation import ngrams
from picolm.evaluation.divergence import Divergences
from picolm.evaluation.ngrams import NGrams

V = 5
streams = st.lists(st.integers(0, V - 1), min_size=2, max_size=60)


class Stream:
    """As much of a split as is counted."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = np.array(tokens, dtype=np.int64)
        self.n_tokens = len(tokens)

    def tokens(self, start: int, stop: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        assert 0 <= start <= stop <= self.n_tokens
        return self._tokens[start:stop]


def counted(tokens: list[int], most: int = 0) -> NGrams:
    return NGrams.of_training(Stream(tokens), V, most)  # type: ignore[arg-type]


def by_hand(tokens: list[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Interpolated Kneser-Ney as the module's docstring has it, p2[u, v]."""
    pairs = Counter(pairwise(tokens))
    once, twice = (sum(count == times for count in pairs.values()) for times in (1, 2))
    d = once / (once + 2 * twice) if once else 0.5
    q = [(sum(pair[1] == v for pair in pairs) + 1) / (len(pairs) + V) for v in range(V)]
    table = np.empty((V, V))
    for u in range(V):
        followed, kinds = sum(pairs[u, v] for v in range(V)), sum(pairs[u, v] > 0 for v in range(V))
        for v in range(V):
            direct = max(pairs[u, v] - d, 0) / followed if followed else 0.0
            table[u, v] = direct + (d * kinds / followed if followed else 1.0) * q[v]
    return table


@given(streams)
def test_the_bigram_is_the_formula(tokens: list[int]) -> None:
    found, wanted = counted(tokens), by_hand(tokens)
    np.testing.assert_allclose(wanted.sum(axis=1), 1, rtol=1e-12)
    before, after = (one.ravel() for one in np.meshgrid(np.arange(V), np.arange(V), indexing="ij"))
    np.testing.assert_allclose(found.bigram_surprisal(before, after), -np.log(wanted.ravel()), rtol=1e-10)
    np.testing.assert_allclose(found.bigram_entropies(), -(wanted * np.log(wanted)).sum(axis=1), rtol=1e-10)
    matrix = torch.randn(V, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    np.testing.assert_allclose(found.expected_rows(matrix), wanted @ matrix.numpy(), atol=1e-12)


@given(streams)
def test_the_unigram_adds_one(tokens: list[int]) -> None:
    found = counted(tokens)
    wanted = [(tokens.count(v) + 1) / (len(tokens) + V) for v in range(V)]
    np.testing.assert_allclose(found.unigram_surprisal(np.arange(V)), -np.log(wanted), rtol=1e-12)


@given(streams, st.integers(1, 9))
def test_blocks_count_each_token_and_each_bigram_once(tokens: list[int], block: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ngrams, "_BLOCK", block)
        parts = counted(tokens)
    whole = counted(tokens)
    for name in ("counts", "starts", "seconds", "times"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_a_sample_is_spread_evenly_and_counts_no_token_twice(n_tokens: int, most: int) -> None:
    spans = list(ngrams._blocks(n_tokens, most))
    assert all(start < stop <= n_tokens for start, stop in spans)
    assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
    size = sum(stop - start for start, stop in spans)
    if most >= n_tokens:
        assert size == n_tokens
    else:
        assert most * 0.6 < size <= most
    if 64 <= most < n_tokens:
        gaps = [after[0] - before[0] for before, after in pairwise(spans)]
        assert max(gaps) - min(gaps) <= 1 and spans[-1][1] == n_tokens


def test_a_model_that_is_the_bigram_has_no_divergence_from_it() -> None:
    """Its hidden states say which token came last, and its output matrix is the table of log-probabilities."""
    tokens = np.random.default_rng(0).choice(V, size=200, p=[0.5, 0.2, 0.15, 0.1, 0.05]).tolist()
    found, table = counted(tokens), by_hand(tokens)
    before = torch.arange(V)
    hidden, matrix = torch.eye(V, dtype=torch.float64), torch.from_numpy(np.log(table).T.copy())
    divergences = Divergences(matrix, found, torch.device("cpu"))
    log_z = (hidden @ matrix.T).logsumexp(-1)
    values = dict(zip(divergences.names, divergences.at(hidden, log_z, before), strict=True))
    np.testing.assert_allclose(values["bigram"], 0, atol=1e-12)
    uniform = np.full(V, 1 / V)
    for name, reference in (("uniform", uniform), ("unigram", found.unigram)):
        wanted = (reference * np.log(reference / table)).sum(axis=1)
        np.testing.assert_allclose(values[name], wanted, rtol=1e-10)
        assert (wanted > 0).all()


def test_divergences_of_any_model_are_those_of_whole_distributions() -> None:
    draw = torch.Generator().manual_seed(1)
    hidden, matrix = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((40, 7), (V, 7)))
    before = torch.randint(V, (40,), generator=draw)
    tokens = np.random.default_rng(1).integers(0, V, 300).tolist()
    references = {"uniform": np.full((40, V), 1 / V), "unigram": np.tile(counted(tokens).unigram, (40, 1))}
    references["bigram"] = by_hand(tokens)[before.numpy()]
    logits = hidden @ matrix.T
    log_q = logits.log_softmax(-1).numpy()
    divergences = Divergences(matrix, counted(tokens), torch.device("cpu"))
    found = divergences.at(hidden, logits.logsumexp(-1), before)
    for name, values in zip(divergences.names, found, strict=True):
        wanted = (references[name] * (np.log(references[name]) - log_q)).sum(axis=1)
        np.testing.assert_allclose(values, wanted, rtol=1e-9, atol=1e-12)
    assert Divergences(matrix, None, torch.device("cpu")).names == ("uniform",)


def test_seen_bigrams_are_likelier_than_unseen_ones() -> None:
    """After 0 always 1; 2 and 3 take turns: the bigram knows, the unigram does not."""
    found = counted([0, 1] * 50 + [2, 3] * 50)
    surprisal = found.bigram_surprisal(np.array([0, 0]), np.array([1, 2]))
    assert surprisal[0] < math.log(1.1) < math.log(4) < surprisal[1]
