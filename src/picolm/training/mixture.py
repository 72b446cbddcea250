"""The order in which a run draws its sequences when its data are mixed by weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from picolm.data.permutation import KeyedPermutation
from picolm.errors import PicoLMError, nearest
from picolm.seams import Draw, IntArray, Plan
from picolm.training.plan import Passes, draws_at

BLOCK = 1000
"""Sequences in which every part has exactly its share: a weight is resolved to a thousandth."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one domain: its places in a block, its first row, and the order of its rows."""

    places: range
    first_row: int
    passes: Passes


class MixturePlan(Plan):
    """Rows of several parts in fixed proportions; within each part, passes in keyed random orders as in `EpochPlan`.

    The sequence numbers of the run are cut into blocks of `BLOCK`. In each block a keyed permutation says which number
    belongs to which part, so that every part has exactly its count in every block, and a part's rows come without
    repetition until all of them were drawn. Number n is a pure function of (fingerprint, seed, weights, n).
    """

    def __init__(
        self,
        *,
        parts: Mapping[str, range],
        shares: Mapping[str, float],
        batch_size: int,
        fingerprint: str,
        seed: int,
    ) -> None:
        """Prepare to draw.

        Args:
            parts: the rows of each part.
            shares: of each part, from `resolve_shares`: whole thousandths, above zero.
            batch_size: sequences of a step.
            fingerprint: of the data.
            seed: the data seed.
        """
        self.batch_size = batch_size
        self._key = (seed, "mixture", fingerprint)
        self._parts: list[_Part] = []
        start = 0
        for name, rows in parts.items():
            places = range(start, start + round(shares[name] * BLOCK))
            self._parts.append(_Part(places, rows.start, Passes(len(rows), seed, "order", fingerprint, name)))
            start = places.stop
        assert start == BLOCK, "shares must add up to one"

    def size(self, step: int) -> int:
        """The batch size, at every step."""
        return self.batch_size

    def start(self, step: int) -> int:
        """`step` batches have been drawn before."""
        return step * self.batch_size

    def numbered(self, numbers: IntArray, step: int) -> IntArray:
        """The rows of sequence numbers [N], the same at every step."""
        blocks, within = np.divmod(numbers, BLOCK)
        places = np.empty_like(within)
        for block in np.unique(blocks):
            here = blocks == block
            places[here] = self._pattern(int(block))(within[here])
        rows = np.empty_like(within)
        for part in self._parts:
            here = (places >= part.places.start) & (places < part.places.stop)
            numbers = blocks[here] * len(part.places) + places[here] - part.places.start
            rows[here] = part.first_row + part.passes.rows(numbers)
        return rows

    def draws(self, rows: IntArray, steps: int) -> list[Draw]:
        """Where rows are drawn in the first `steps` steps, by inverting the permutations."""
        end = self.start(steps)
        n_blocks = -(-end // BLOCK)
        found: dict[int, int] = {}
        for part in self._parts:
            own = rows[(rows >= part.first_row) & (rows < part.first_row + part.passes.n_rows)] - part.first_row
            if len(own):
                for number, row in part.passes.numbers(own, n_blocks * len(part.places)).items():
                    block, place = divmod(number, len(part.places))
                    within = self._pattern(block).inverse(np.array([part.places.start + place]))
                    found[block * BLOCK + int(within[0])] = part.first_row + row
        return draws_at({number: row for number, row in found.items() if number < end}, self.batch_size)

    def _pattern(self, block: int) -> KeyedPermutation:
        return KeyedPermutation(BLOCK, *self._key, block)


def resolve_shares(weights: Mapping[str, float], domains: Mapping[str, object]) -> dict[str, float]:
    """Turn weights into the shares that are drawn: thousandths that add up to one, by largest remainders.

    Args:
        weights: of domains, on any scale; a domain that is left out is not drawn.
        domains: those that the data have.

    Returns:
        The share of each name in `weights`. Resolving shares gives the same shares.

    Raises:
        PicoLMError: a name is no domain, no weight is above zero, or one is too small for a thousandth.
    """
    for name in weights:
        if name not in domains:
            raise PicoLMError(
                f"data.mixture names the domain '{name}', which the data do not have{nearest(name, domains)}"
            )
    total = sum(weights.values())
    if total <= 0:
        raise PicoLMError("data.mixture gives no domain a weight above zero: nothing could be drawn")
    exact = {name: weight / total * BLOCK for name, weight in weights.items()}
    counts = {name: int(share + 1e-9) for name, share in exact.items()}
    # Of equal remainders the first in the alphabet: the order in which weights are written means nothing.
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: BLOCK - sum(counts.values())]:
        counts[name] += 1
    for name, weight in weights.items():
        if weight > 0 and not counts[name]:
            raise PicoLMError(
                f"data.mixture gives '{name}' {weight:g} of {total:g}, less than the smallest share, 1 of {BLOCK}: "
                "give it more, or 0"
            )
    return {name: count / BLOCK for name, count in counts.items()}
