"""How varied texts are, counted in words, which are what white space parts: so they compare tokenizers too."""

from __future__ import annotations

from collections.abc import Sequence

Words = Sequence[str]


def ngrams(words: Words, n: int) -> list[tuple[str, ...]]:
    """All runs of n words, [max(0, len - n + 1)]."""
    return list(zip(*(words[start:] for start in range(n)), strict=False))


def distinct(texts: Sequence[Words], n: int) -> float | None:
    """Different n-grams of all texts together, divided by all of them: distinct-n of Li et al. (2016).

    It falls with the amount of text, so only samples of about the same size compare.

    Returns:
        From 0 to 1; None where there is no n-gram.
    """
    found = [ngram for words in texts for ngram in ngrams(words, n)]
    return len(set(found)) / len(found) if found else None


def repetition(words: Words, n: int) -> float | None:
    """Share of a text's n-grams that stand in it already: 1 - different / all, seq-rep-n of Welleck et al. (2020).

    Returns:
        From 0 to 1; None where the text has no n-gram.
    """
    found = ngrams(words, n)
    return 1 - len(set(found)) / len(found) if found else None
