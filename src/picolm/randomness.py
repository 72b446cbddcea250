"""Keyed randomness: every draw is a pure function of a seed and a name, never of what was drawn before.

So adding a module, a worker or an intervention shifts no other draw, and no generator state need be saved.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Key = str | int


def derive_seed(seed: int, *key: Key) -> int:
    """Hash a seed and a key to a seed of 63 bits (BLAKE2b over a self-delimiting encoding).

    Args:
        seed: the user's seed for one purpose (init, data, dropout, ...).
        *key: what the draw is for, for example ``("init", "layers.0.attention.q_proj.weight")``.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (seed, *key):
        text = f"{type(part).__name__}:{part}".encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return int.from_bytes(digest.digest(), "little") >> 1


def generator(seed: int, *key: Key) -> np.random.Generator:
    """Return a NumPy generator (Philox, counter-based) for one keyed stream."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=derive_seed(seed, *key)))
