"""A world whose best loss is known: documents from a probabilistic grammar that gives every sentence one derivation.

As the derivation is unique, the entropy of a sentence is that of its derivation, which has a closed form (Grenander
1967): with h(A) the entropy of the choice among the rules of A, and M(A, B) the expected number of Bs in one step from
A, the entropies of all symbols are (I - M)^-1 h. No model of these texts, whatever its tokenizer, has a lower expected
loss per document; `log_probability` gives the exact loss of one document for the model that knows the grammar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import accumulate

import numpy as np

from picolm.text.document import Document
from picolm.text.world.draw import Draw, zipf_probabilities
from picolm.text.world.words import Page, Word, Words

Rule = tuple[float, tuple[str, ...]]

# How many documents end after a sentence.
END = 0.1


class Grammar:
    """A probabilistic context-free grammar without left recursion.

    Args:
        rules: for each symbol its productions with their probabilities; what has no rules is a word.
        start: the symbol of a sentence.
    """

    def __init__(self, rules: Mapping[str, Sequence[Rule]], start: str) -> None:
        for symbol, productions in rules.items():
            assert math.isclose(sum(p for p, _ in productions), 1.0), f"the rules of {symbol} do not add up to 1"
        self.rules = rules
        self.start = start
        self._symbols = list(rules)
        self._cumulative = {symbol: tuple(accumulate(p for p, _ in some)) for symbol, some in rules.items()}

    def entropy(self) -> float:
        """Return the entropy of a derivation, in nats; of a sentence, if each sentence has one derivation."""
        return self._expected(lambda symbol: -sum(p * math.log(p) for p, _ in self.rules[symbol]))

    def expected(self, weight: Callable[[str], float]) -> float:
        """Return the expected sum of a weight over the words of a sentence."""

        def of_step(symbol: str) -> float:
            return sum(p * sum(weight(s) for s in body if s not in self.rules) for p, body in self.rules[symbol])

        return self._expected(of_step)

    def _expected(self, of_step: Callable[[str], float]) -> float:
        place = {symbol: number for number, symbol in enumerate(self._symbols)}
        spawned = np.zeros((len(place), len(place)))
        for symbol, productions in self.rules.items():
            for p, body in productions:
                for child in body:
                    if child in place:
                        spawned[place[symbol], place[child]] += p
        totals = np.linalg.solve(np.eye(len(place)) - spawned, np.array([of_step(s) for s in self._symbols]))
        return float(totals[place[self.start]])

    def sample(self, draw: Draw) -> list[tuple[str, str]]:
        """Draw a sentence: each word with the symbol that made it."""
        made: list[tuple[str, str]] = []
        stack = [(self.start, self.start)]
        while stack:
            symbol, parent = stack.pop()
            if symbol not in self.rules:
                made.append((symbol, parent))
                continue
            _, body = draw.weighted(self.rules[symbol], self._cumulative[symbol])
            stack += [(child, symbol) for child in reversed(body)]
        return made

    def log_probability(self, sentence: Sequence[str]) -> float:
        """Return the logarithm of a sentence's probability, summed over its derivations; -inf if it has none."""

        @cache
        def ends(symbol: str, start: int) -> dict[int, float]:
            if symbol not in self.rules:
                return {start + 1: 1.0} if start < len(sentence) and sentence[start] == symbol else {}
            total: dict[int, float] = {}
            for p, body in self.rules[symbol]:
                reached = {start: p}
                for child in body:
                    after: dict[int, float] = {}
                    for at, so_far in reached.items():
                        for end, inner in ends(child, at).items():
                            after[end] = after.get(end, 0.0) + so_far * inner
                    reached = after
                for end, probability in reached.items():
                    total[end] = total.get(end, 0.0) + probability
            return total

        found = ends(self.start, 0).get(len(sentence), 0.0)
        return math.log(found) if found else -math.inf


def _words(entries: str) -> tuple[Rule, ...]:
    split = entries.split()
    return tuple(zip(zipf_probabilities(len(split)), ((word,) for word in split), strict=True))


_SINGULARS = (
    "dog cat cow horse bird fox king girl boy farmer sailor owl wolf bear witch knight pilot teacher baker whale"
)
_BOTH = ("singular", "plural")
_VERBS = "sleep run laugh wait sing jump rest dance swim climb dream shiver"
_ACTIONS = "see like find help love follow call watch know chase trust fear greet warn praise"


def _number(number: str) -> dict[str, Sequence[Rule]]:
    is_one = number == "singular"
    ending = "s" if is_one else ""
    nouns = " ".join(word if is_one else _PLURALS.get(word, word + "s") for word in _SINGULARS.split())
    inner: list[Rule] = [(0.09, ("a noun " + number, "PP " + other)) for other in _BOTH]
    inner += [(0.06, ("a noun " + number, "that", "NP " + other, "act on " + other)) for other in _BOTH]
    return {
        "NP " + number: [(0.70, ("a noun " + number,)), *inner],
        "a noun " + number: [(1.0, ("determiner " + number, "noun " + number))],
        "determiner " + number: [
            (0.6, ("the",)),
            (0.25, ("a" if is_one else "some",)),
            (0.15, ("this" if is_one else "these",)),
        ],
        "noun " + number: _words(nouns),
        "PP " + number: [(1.0, ("preposition", "NP " + number))],
        "VP " + number: [
            (0.45, ("act " + number,)),
            *((0.275, ("act on " + number, "NP " + other)) for other in _BOTH),
        ],
        "act " + number: _words(" ".join(word + ending for word in _VERBS.split())),
        "act on " + number: _words(" ".join(_THIRDS.get(w, w + "s") if is_one else w for w in _ACTIONS.split())),
    }


_PLURALS = {"fox": "foxes", "wolf": "wolves", "witch": "witches"}
_THIRDS = {"watch": "watches"}
_UPOS = {"determiner": "DET", "noun": "NOUN", "act": "VERB", "preposition": "ADP", "NP": "PRON", "S": "PUNCT"}

GRAMMAR = Grammar(
    {
        "S": [(0.6, ("NP singular", "VP singular", ".")), (0.4, ("NP plural", "VP plural", "."))],
        "preposition": _words("near behind beside under above"),
        **_number("singular"),
        **_number("plural"),
    },
    "S",
)


def document(seed: int, index: int) -> Document:
    """Draw a document: sentences until one is the last, in small letters, every token set off by a space."""
    draw = Draw.keyed(seed, "embedded:pcfg", index)
    page = Page()
    while True:
        page.write(_tagged(draw))
        if draw.chance(END):
            return Document(f"pcfg-{index}", page.text, "pcfg", {}, tuple(page.tags))


def _tagged(draw: Draw) -> Words:
    return tuple(Word(text, _UPOS[symbol.split()[0]]) for text, symbol in GRAMMAR.sample(draw))


def log_probability(text: str) -> float:
    """Return the natural logarithm of a document's probability, its end included."""
    sentences = [[*part.split(), "."] for part in text.split(".") if part.strip()]
    inside = sum(GRAMMAR.log_probability(sentence) for sentence in sentences)
    return inside + (len(sentences) - 1) * math.log(1.0 - END) + math.log(END)


def floor() -> dict[str, float]:
    """Return what no model can beat, exactly.

    Returns:
        `nats_per_document` (the end included); `words_per_document` (full stops included) and `bytes_per_document`;
        `nats_per_word`: of words, full stops and the end of the document; `bits_per_byte`.
    """
    n_sentences = 1.0 / END
    of_end = -(END * math.log(END) + (1.0 - END) * math.log(1.0 - END)) / END
    nats = n_sentences * GRAMMAR.entropy() + of_end
    words = n_sentences * GRAMMAR.expected(lambda word: 1.0)
    # A space goes before every word but the first of a document, and none before a full stop.
    n_bytes = n_sentences * GRAMMAR.expected(lambda word: 1.0 if word == "." else len(word) + 1.0) - 1.0
    return {
        "nats_per_document": nats,
        "words_per_document": words,
        "bytes_per_document": n_bytes,
        "nats_per_word": nats / (words + 1.0),
        "bits_per_byte": nats / math.log(2.0) / n_bytes,
    }
