"""Few-shot tasks that text poses by itself: which of N words was taken out of a window (Bansal et al. 2020).

An episode draws N token types and, for each, windows that hold it and none of the others; every occurrence is masked,
and which of the N it was is to be told from the rest. Some windows of each class are learned from (support), others are
asked about (query). Shapes: N classes, K support and Q query windows of each, S = N (K + Q), L tokens of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from picolm.errors import PicoLMError
from picolm.objective.window_pool import WindowPool
from picolm.seams import IntArray

_MOST_DRAWS = 1000
"""Attempts at one episode. Where as many fail, hardly any selection of types has enough windows."""


@dataclass(frozen=True, slots=True)
class EpisodeShape:
    """How large an episode is."""

    ways: int
    """Classes, N."""
    support: int
    """Windows of each class that are learned from, K."""
    query: int
    """Windows of each class that are asked about, Q."""

    @property
    def n_support(self) -> int:
        """N K."""
        return self.ways * self.support

    @property
    def n_query(self) -> int:
        """N Q."""
        return self.ways * self.query

    @property
    def rows(self) -> int:
        """Windows of an episode, S."""
        return self.n_support + self.n_query


@dataclass(frozen=True, slots=True)
class Episode:
    """One task. Support windows come first; in both parts they stand in random order."""

    tokens: IntArray
    """[S, L], masked."""
    labels: IntArray
    """[S], in range(N); each as often as the others in both parts."""
    positions: IntArray
    """[S]: the last masked position of each window."""
    types: IntArray
    """[N]: the token type of each label."""
    windows: IntArray
    """[S]: their numbers in the pool, all different."""
    redraws: int
    """Selections of types that were given up because one had too few windows."""


class EpisodeSampler:
    """Draws episodes from a pool; what a draw gives is a pure function of the pool and the generator."""

    def __init__(
        self,
        pool: WindowPool,
        shape: EpisodeShape,
        *,
        allowed: np.ndarray[Any, np.dtype[np.bool_]],
        mask_id: int,
        most: float = 1.0,
        gamma: float = 0.3,
        shuffled: bool = False,
    ) -> None:
        """Find the types that an episode can ask about.

        Args:
            pool: the windows.
            shape: of each episode.
            allowed: bool [V]: types that may be asked about.
            mask_id: what takes their place.
            most: the largest share of windows that may hold such a type.
            gamma: types are drawn with probability proportional to (windows that hold it)^gamma; 0: all alike.
            shuffled: whether labels are dealt out anew, in support and query apart, so that there is nothing to learn.

        Raises:
            PicoLMError: there are fewer such types than classes.
        """
        self.pool, self.shape, self.mask_id, self.shuffled = pool, shape, mask_id, shuffled
        least, highest = shape.support + shape.query, int(most * len(pool.tokens))
        fits = (pool.frequencies >= least) & (pool.frequencies <= highest) & allowed
        self.candidates: IntArray = np.flatnonzero(fits)
        if len(self.candidates) < shape.ways:
            raise PicoLMError(
                f"an episode of {shape.ways} classes cannot be drawn: {len(self.candidates)} of the types that may be "
                f"asked about stand in {least} to {highest} of the pool's {len(pool.tokens)} windows; take a larger "
                "pool, fewer windows of a class or fewer classes, or ask about all types"
            )
        self._log_weights = gamma * np.log(pool.frequencies[self.candidates])

    def draw(self, generator: np.random.Generator) -> Episode:
        """Draw one episode.

        Raises:
            PicoLMError: no selection of types was found for which there are enough windows.
        """
        for redraws in range(_MOST_DRAWS):
            types = self._types(generator)
            windows = self._windows(types, generator)
            if windows is not None:
                return self._episode(types, windows, redraws, generator)
        raise PicoLMError(
            f"in {_MOST_DRAWS} draws no {self.shape.ways} types were found that each stand in "
            f"{self.shape.support + self.shape.query} windows without the others: take a larger pool, or rarer types"
        )

    def _types(self, generator: np.random.Generator) -> IntArray:
        """N types one after the other without replacement: the largest of log-weights with Gumbel noise.

        Such a list is distributed as successive draws are (Yellott 1977).
        """
        keys = self._log_weights + generator.gumbel(size=len(self.candidates))
        drawn = self.candidates[np.argsort(-keys, kind="stable")[: self.shape.ways]]
        # The list begins with what is frequent: labels must not say so.
        return generator.permutation(drawn)

    def _windows(self, types: IntArray, generator: np.random.Generator) -> list[IntArray] | None:
        """For each type K + Q different windows that hold none of the others, or None where there are not enough."""
        holding = [self.pool.holding(int(type)) for type in types]
        windows, counts = np.unique(np.concatenate(holding), return_counts=True)
        several = windows[counts > 1]
        alone = [mine[~np.isin(mine, several, assume_unique=True)] for mine in holding]
        size = self.shape.support + self.shape.query
        if min(len(mine) for mine in alone) < size:
            return None
        return [generator.choice(mine, size, replace=False) for mine in alone]

    def _episode(
        self, types: IntArray, windows: list[IntArray], redraws: int, generator: np.random.Generator
    ) -> Episode:
        shape = self.shape
        support = np.concatenate([mine[: shape.support] for mine in windows])
        query = np.concatenate([mine[shape.support :] for mine in windows])
        numbers = np.arange(shape.ways, dtype=np.int64)
        labels = np.concatenate([np.repeat(numbers, shape.support), np.repeat(numbers, shape.query)])
        order = np.concatenate(
            [generator.permutation(shape.n_support), shape.n_support + generator.permutation(shape.n_query)]
        )
        chosen, labels = np.concatenate([support, query])[order], labels[order]
        tokens = self.pool.tokens[chosen]
        masked = tokens == types[labels][:, None]
        if self.shuffled:
            first, second = np.split(labels, [shape.n_support])
            labels = np.concatenate([generator.permutation(first), generator.permutation(second)])
        length = tokens.shape[1]
        return Episode(
            tokens=np.where(masked, self.mask_id, tokens),
            labels=labels,
            positions=length - 1 - np.argmax(masked[:, ::-1], axis=1).astype(np.int64),
            types=types,
            windows=chosen,
            redraws=redraws,
        )
