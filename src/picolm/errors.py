"""What a user reads when something they gave us is wrong."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class PicoLMError(ValueError):
    """One clear sentence: what is wrong, and what would be right.

    The command line prints it and exits with code 2, without a traceback.
    """


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return the hint that ends an error about an unknown name.

    Args:
        word: what the user wrote.
        valid: the names that would have been right.

    Returns:
        ``"; did you mean 'x'?"`` for a likely typo, else the list of valid names.
    """
    names = sorted(valid)
    # For `training.lr` the user may have meant `learning_rate`: compare last parts too.
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not close:
        tails = {name.rsplit(".", 1)[-1]: name for name in names}
        tail = difflib.get_close_matches(word.rsplit(".", 1)[-1], list(tails), n=1, cutoff=0.75)
        close = [tails[tail[0]]] if tail else []
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; valid names: {', '.join(names)}" if names else ""


def to_standard_error(sentence: str) -> None:
    """Tell the user something that does not stop the work."""
    print(f"picolm: {sentence}", file=sys.stderr)
