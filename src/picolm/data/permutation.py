"""A shuffle of range(n) that is computed where it is looked at, in constant memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from picolm.randomness import Key, derive_seed

Int64Array = np.ndarray[Any, np.dtype[np.int64]]
_UInt64Array = np.ndarray[Any, np.dtype[np.uint64]]

_ROUNDS = 8
# On fewer bits a Feistel network reaches some orders more often than others, however many its rounds.
_LEAST_HALF = 3


class KeyedPermutation:
    """A bijection of range(n), a pure function of (n, key).

    A balanced Feistel network (Luby & Rackoff 1988) on the smallest domain of an even number of bits, six or more,
    that holds n; results outside range(n) are permuted again until they fall inside (cycle walking: Black & Rogaway
    2002), fewer than four times on average where n exceeds 16.
    """

    def __init__(self, n: int, *key: Key) -> None:
        if not 1 <= n <= 2**62:
            raise ValueError(f"a permutation of {n} elements: 1 to 2**62 are possible")
        self.n = n
        self._half = np.uint64(max(_LEAST_HALF, ((n - 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._half)) - 1)
        self._round_keys = [np.uint64(derive_seed(number, "permutation", *key)) for number in range(_ROUNDS)]

    def __call__(self, positions: Int64Array) -> Int64Array:
        """Map positions.

        Args:
            positions: int64 of any shape, each in range(n).

        Returns:
            int64 of the same shape: where each position goes.

        Raises:
            IndexError: a position is outside range(n).
        """
        return self._walk(positions, self._network)

    def inverse(self, images: Int64Array) -> Int64Array:
        """Map back: int64 of the same shape, the positions that go to `images`.

        Raises:
            IndexError: an image is outside range(n).
        """
        return self._walk(images, self._network_backwards)

    def _walk(self, values: Int64Array, network: Callable[[_UInt64Array], _UInt64Array]) -> Int64Array:
        values = np.asarray(values, dtype=np.int64)
        if values.size and (values.min() < 0 or values.max() >= self.n):
            raise IndexError(f"positions must be in range({self.n})")
        images = network(values.astype(np.uint64).ravel())
        outside = np.flatnonzero(images >= self.n)
        while outside.size:
            images[outside] = network(images[outside])
            outside = outside[images[outside] >= self.n]
        return images.astype(np.int64).reshape(values.shape)

    def _network(self, values: _UInt64Array) -> _UInt64Array:
        left, right = values >> self._half, values & self._mask
        for key in self._round_keys:
            left, right = right, left ^ (_mix(right ^ key) & self._mask)
        return (left << self._half) | right

    def _network_backwards(self, values: _UInt64Array) -> _UInt64Array:
        left, right = values >> self._half, values & self._mask
        for key in reversed(self._round_keys):
            left, right = right ^ (_mix(left ^ key) & self._mask), left
        return (left << self._half) | right


def _mix(values: _UInt64Array) -> _UInt64Array:
    """Finalise as splitmix64 does (Steele et al. 2014): every input bit reaches every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
