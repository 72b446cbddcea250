"""Texts that end a generated text where they first appear."""

from __future__ import annotations

from collections.abc import Sequence

from picolm.errors import PicoLMError


class StopStrings:
    """Looks for stop strings in text, not in tokens: one may span several tokens, or begin and end inside of them.

    Args:
        texts: what ends a text; the text is cut before it.

    Raises:
        PicoLMError: one of them is empty.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        if "" in texts:
            raise PicoLMError("a stop string must not be empty: it would end every text before it begins")
        self._texts = tuple(texts)

    def cut(self, text: str) -> str | None:
        """Return the text before the first stop string, None where there is none."""
        found = [place for stop in self._texts if (place := text.find(stop)) >= 0]
        return text[: min(found)] if found else None

    def settled(self, text: str) -> str:
        """Return what stays whatever comes: without an end that may be the beginning of a stop string."""
        if not self._texts:
            return text
        # Half of a character reads as U+FFFD until its other bytes have come.
        text = text.rstrip("\ufffd")
        longest = max(map(len, self._texts)) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._texts):
                return text[:-length]
        return text
