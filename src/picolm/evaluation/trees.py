"""Passages that begin alike, laid out so that what they share is read and scored once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from picolm.evaluation.batching import IntArray

USUAL_ROW = 40
"""Tokens that are read in one row: more would spare little more, and attention grows with the square."""
LONGEST_ROW = 256
"""The same where passages share most of what they are."""


class Passage(NamedTuple):
    """Tokens that a causal model reads; those from `first` on, which is 1 at least, are scored."""

    tokens: IntArray
    first: int

    @property
    def n_scored(self) -> int:
        """How many tokens are scored."""
        return max(len(self.tokens) - self.first, 0)


@dataclass(frozen=True, slots=True)
class Tree:
    """Some passages as one row.

    Attributes:
        tokens: that are read, [N].
        parents: place of the token before each; -1 at a beginning, [N].
        places: where tokens are scored, [S].
        targets: the tokens that are scored there, [S].
        members: of each passage its number, and where in [S] its scored tokens are.
    """

    tokens: IntArray
    parents: IntArray
    places: IntArray
    targets: IntArray
    members: list[tuple[int, IntArray]]


def grow(passages: Sequence[Passage], numbers: Sequence[int]) -> Iterator[Tree]:
    """Lay passages out as rows.

    Sorted by their tokens, each shares the more with the one before it the more they begin alike, so that a row is made
    by going along, back to where the two part, and on.

    Args:
        passages: in any order.
        numbers: which of them; each reads `LONGEST_ROW` tokens at most.
    """
    # Bytes of big-endian numbers are ordered as the numbers are.
    order = sorted(numbers, key=lambda number: passages[number].tokens.astype(">u4").tobytes())
    row = _Row()
    before = np.empty(0, dtype=np.int64)
    for number in order:
        passage = passages[number]
        shared = common_beginning(before, passage.tokens)
        read = len(passage.tokens) - 1
        most = LONGEST_ROW if 2 * shared > read else USUAL_ROW
        if row.members and len(row.tokens) + read - min(shared, len(row.path)) > most:
            yield row.tree()
            row, shared = _Row(), 0
        row.add(number, passage, shared)
        before = passage.tokens
    if row.members:
        yield row.tree()


def common_beginning(one: IntArray, other: IntArray) -> int:
    """With how many tokens both begin."""
    shorter = min(len(one), len(other))
    differ = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(differ[0]) if len(differ) else shorter


class _Row:
    """A tree while it grows."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.places: list[int] = []
        self.targets: list[int] = []
        self.members: list[tuple[int, IntArray]] = []
        self.path: list[int] = []
        """The nodes of the last passage, token by token."""
        self.scored: list[int] = []
        """Where in `places` its tokens are scored, token by token from the second on; -1: not yet."""

    def add(self, number: int, passage: Passage, shared: int) -> None:
        """Take a passage in; it begins with `shared` tokens as the last one did."""
        tokens = passage.tokens.tolist()
        del self.path[shared:]
        for token in tokens[len(self.path) : -1]:
            self.parents.append(self.path[-1] if self.path else -1)
            self.path.append(len(self.tokens))
            self.tokens.append(token)
        # The token at place j is scored at the node of the token before it.
        del self.scored[max(shared - 1, 0) :]
        self.scored += [-1] * (len(tokens) - 1 - len(self.scored))
        for place in range(passage.first, len(tokens)):
            if self.scored[place - 1] < 0:
                self.scored[place - 1] = len(self.places)
                self.places.append(self.path[place - 1])
                self.targets.append(tokens[place])
        self.members.append((number, np.array(self.scored[passage.first - 1 :], dtype=np.int64)))

    def tree(self) -> Tree:
        """The whole row."""
        tokens, parents, places, targets = (
            np.array(own, dtype=np.int64) for own in (self.tokens, self.parents, self.places, self.targets)
        )
        return Tree(tokens, parents, places, targets, self.members)
