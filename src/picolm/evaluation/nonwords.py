"""Non-words that look like words: of the same length, and as probable to a character n-gram model of the word list.

The model is trained on the list itself, each word once, so non-words have its phonotactics: all their n-grams stand in
some word. For each word strings of its length are drawn from the model, and the one whose log-probability is nearest to
the word's is taken. Nothing is known of spelling or of sound.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from picolm.errors import PicoLMError
from picolm.randomness import generator
from picolm.runs.durable import make_parents, write_text

_END = ""
"""What follows the last character."""


class Matched(NamedTuple):
    """A word and its non-word."""

    word: str
    nonword: str
    log_p: float
    """Of the word, in nats, by the n-gram model."""
    nonword_log_p: float
    """Of the non-word."""


class CharacterNGrams:
    """p(character | the n - 1 before it), as relative frequencies over a list of words, their ends included.

    Args:
        words: each counts as often as it is listed.
        order: n, from 1; a word begins behind n - 1 borders.
    """

    def __init__(self, words: Sequence[str], order: int) -> None:
        self._kept = order - 1
        counts: dict[str, Counter[str]] = {}
        for word in words:
            for place in range(len(word) + 1):
                counts.setdefault(self._history(word[:place]), Counter())[word[place : place + 1]] += 1
        self._next = {
            history: {character: count / own.total() for character, count in sorted(own.items())}
            for history, own in counts.items()
        }
        self._masses: dict[tuple[str, int], float] = {}
        self._drawn: dict[tuple[str, int], tuple[list[str], list[float]]] = {}

    def log_p(self, word: str) -> float:
        """Nats of a whole word, its end included; minus infinity where an n-gram of it stands in no word."""
        steps = [
            self._next.get(self._history(word[:place]), {}).get(word[place : place + 1], 0.0)
            for place in range(len(word) + 1)
        ]
        return math.fsum(math.log(p) for p in steps) if all(steps) else -math.inf

    def mass(self, length: int) -> float:
        """The probability of all strings of a length."""
        return self._mass(self._history(""), length)

    def draw(self, length: int, random: np.random.Generator) -> str:
        """Draw a string of a length, each as often as its probability among those: the mass must be above 0."""
        text = ""
        for left in range(length, 0, -1):
            characters, sums = self._choices(self._history(text), left)
            text += characters[min(bisect_right(sums, random.random() * sums[-1]), len(sums) - 1)]
        return text

    def _choices(self, history: str, left: int) -> tuple[list[str], list[float]]:
        """The characters that may follow where `left` are to come, and the running sums of their weights."""
        if (history, left) not in self._drawn:
            weights = {
                c: p * self._mass(self._after(history, c), left - 1)
                for c, p in self._next[history].items()
                if c != _END
            }
            possible = [c for c, weight in weights.items() if weight > 0]
            self._drawn[history, left] = possible, list(accumulate(weights[c] for c in possible))
        return self._drawn[history, left]

    def _after(self, history: str, character: str) -> str:
        return (history + character)[1:] if self._kept else ""

    def _history(self, text: str) -> str:
        return text[max(len(text) - self._kept, 0) :].rjust(self._kept, "\0")

    def _mass(self, history: str, left: int) -> float:
        """The probability that a word goes on for `left` characters and then ends."""
        options = self._next.get(history, {})
        if left == 0:
            return options.get(_END, 0.0)
        if (history, left) not in self._masses:
            self._masses[history, left] = math.fsum(
                p * self._mass(self._after(history, c), left - 1) for c, p in options.items() if c != _END
            )
        return self._masses[history, left]


def match_nonwords(
    words: Sequence[str],
    *,
    known: Collection[str] = (),
    n_tokens: Callable[[str], int] | None = None,
    order: int = 3,
    candidates: int = 100,
    seed: int = 0,
) -> tuple[list[Matched], list[str]]:
    """Make a non-word for each word.

    A tokenizer that has seen the words cuts non-words into more tokens, which alone tells the two apart. Where that
    matters, let `n_tokens` say how many tokens a text has: words that are one token each are given back then.

    Args:
        words: of one language, without white space; the longer the list, the better the non-words.
        known: further words, which no non-word may be; case does not matter.
        n_tokens: how many tokens a text has, which must be the same for both; None: it need not be.
        order: n of the n-gram model. A larger one gives likelier non-words, and finds fewer.
        candidates: strings to draw for each word.
        seed: of the draws, which are keyed by the word.

    Returns:
        The pairs, in the order of the list; and the words for which no draw was new and of as many tokens.

    Raises:
        PicoLMError: a word is empty or holds white space, an argument is below 1, or there is no non-word at all.
    """
    if order < 1 or candidates < 1:
        raise PicoLMError(f"order={order} and candidates={candidates} must be 1 at least")
    listed = list(dict.fromkeys(words))
    for number, word in enumerate(listed, start=1):
        if not word or any(character.isspace() for character in word):
            raise PicoLMError(f"word {number} of the list is {word!r}: a word has characters and no white space")
    model = CharacterNGrams(listed, order)
    taken = {word.lower() for word in (*listed, *known)}
    found, missed = [], []
    for word in listed:
        random = generator(seed, "non-words", word)
        drawn = dict.fromkeys(model.draw(len(word), random) for _ in range(candidates))
        own = model.log_p(word)
        new = [(abs(model.log_p(text) - own), text) for text in drawn if text.lower() not in taken]
        if n_tokens is not None:
            new = [(gap, text) for gap, text in new if n_tokens(text) == n_tokens(word)]
        if new:
            nonword = min(new)[1]
            taken.add(nonword.lower())
            found.append(Matched(word, nonword, own, model.log_p(nonword)))
        else:
            missed.append(word)
    if not found:
        raise PicoLMError(
            f"no non-word was found for any of {len(listed)} words: list more, or choose a lower order than {order}"
        )
    return found, missed


def write_nonwords(path: Path | str, matched: Sequence[Matched], group: str = "") -> None:
    """Write pairs as the task `lexical` reads them.

    Args:
        path: the file, which is replaced.
        matched: from `match_nonwords`.
        group: in which they are reported; empty: none.
    """
    beside = {"group": group} if group else {}
    records = ({"word": one.word, "nonword": one.nonword, **beside} for one in matched)
    make_parents(Path(path))
    write_text(Path(path), "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
