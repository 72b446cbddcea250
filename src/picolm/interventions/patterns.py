"""Which parameters a pattern of an intervention means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from picolm.errors import PicoLMError, nearest


def matching(patterns: Sequence[str], names: Iterable[str], key: str) -> list[str]:
    """The names that a pattern means: `*` stands for anything, and a module's path for all parameters in it.

    Args:
        patterns: for example `layers.0`, `layers.*.attention.q_proj` or `embedding.weight`.
        names: of parameters.
        key: the setting that holds the patterns, for the error.

    Raises:
        PicoLMError: a pattern means none of them.
    """
    listed = list(names)
    found: set[str] = set()
    for pattern in patterns:
        meant = {name for name in listed if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")}
        if not meant:
            raise PicoLMError(f"{key}: '{pattern}' means no parameter{nearest(pattern, listed)}")
        found |= meant
    return [name for name in listed if name in found]
