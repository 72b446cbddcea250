"""Tagging parts of speech: PicoLM's averaged perceptron against the plain one that everybody knows.

The peer is the perceptron tagger as Honnibal (2013) wrote it and NLTK has it: a dictionary of weights for each feature,
a table of the words that have one tag only, one word after the other. Both learn from the same sentences, as often, and
tag the same test. Both sides count from words to tags; to find words in raw text costs PicoLM something besides.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from picolm.text.perceptron import train_perceptron
from picolm.text.tagged import Sentences, read_tagged
from picolm.text.tagsets import COARSE

TREEBANK = Path(__file__).resolve().parents[2] / "shared" / "data" / "ud" / "UD_English-EWT"
EMBEDDED = "embedded:english?documents=400"
PASSES = 5
ROUNDS = 3
"""The test is tagged so often, by turns; the first round of PicoLM meets every word for the first time."""


def run() -> list[dict[str, Any]]:
    """Train and tag on both sides; print and return one row."""
    name, learnt, test = _sentences()
    started = time.perf_counter()
    number = {tag: place for place, tag in enumerate(COARSE)}
    ours = train_perceptron(learnt.words, [[number[tag] for tag in own] for own in learnt.tags], COARSE, passes=PASSES)
    ours_trained = time.perf_counter() - started
    started = time.perf_counter()
    theirs = PlainTagger()
    theirs.train(learnt)
    theirs_trained = time.perf_counter() - started
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        started = time.perf_counter()
        found = [[COARSE[code - 1] for code in own.tolist()] for own in ours.codes(test.words)]
        seconds["ours"].append(time.perf_counter() - started)
        started = time.perf_counter()
        plainly = [theirs.tag(words) for words in test.words]
        seconds["theirs"].append(time.perf_counter() - started)
    n_words = test.n_words
    first, warm, plain = n_words / seconds["ours"][0], n_words / min(seconds["ours"]), n_words / min(seconds["theirs"])
    accuracies = [_accuracy(own, test) for own in (found, plainly)]
    print(f"{'tagging':<34} {'PicoLM':>14} {'plain':>14} {'ratio':>7}")
    print(f"{name:<34} {warm:>8,.0f} tok/s {plain:>8,.0f} tok/s {warm / plain:>6.2f}x")
    print(f"{'  every word for the first time':<34} {first:>8,.0f} tok/s")
    print(
        f"{'  training':<34} {ours_trained:>12.1f} s {theirs_trained:>12.1f} s {theirs_trained / ours_trained:>6.2f}x"
    )
    print(f"{'  right':<34} {100 * accuracies[0]:>13.1f}% {100 * accuracies[1]:>13.1f}%", flush=True)
    return [
        {
            "text": name,
            "picolm_tokens_per_second": round(warm),
            "picolm_tokens_per_second_at_first": round(first),
            "plain_tokens_per_second": round(plain),
            "picolm_training_seconds": round(ours_trained, 1),
            "plain_training_seconds": round(theirs_trained, 1),
            "picolm_accuracy": round(accuracies[0], 4),
            "plain_accuracy": round(accuracies[1], 4),
            "ratio": round(warm / plain, 3),
        }
    ]


class PlainTagger:
    """Weights by feature and tag, in dictionaries; averaged as each changes."""

    def __init__(self) -> None:
        self.weights: dict[str, dict[str, float]] = {}
        self.certain: dict[str, str] = {}
        self._totals: dict[tuple[str, str], float] = defaultdict(float)
        self._since: dict[tuple[str, str], int] = defaultdict(int)
        self._seen = 0

    def tag(self, words: Sequence[str]) -> list[str]:
        """Tag one sentence."""
        before, last, found = "-2", "-1", []
        context = _context(words)
        for place, word in enumerate(words):
            tag = self.certain.get(word) or self._predicted(_features(place, word, context, last, before))
            found.append(tag)
            before, last = last, tag
        return found

    def train(self, learnt: Sentences) -> None:
        """Learn, then average."""
        self._note_certain(learnt)
        pairs = list(zip(learnt.words, learnt.tags, strict=True))
        shuffled = random.Random(0)
        for _ in range(PASSES):
            for words, tags in pairs:
                before, last, context = "-2", "-1", _context(words)
                for place, (word, truth) in enumerate(zip(words, tags, strict=True)):
                    guess = self.certain.get(word)
                    if guess is None:
                        features = _features(place, word, context, last, before)
                        guess = self._predicted(features)
                        self._update(truth, guess, features)
                    before, last = last, guess
            shuffled.shuffle(pairs)
        for feature, weights in self.weights.items():
            for tag, weight in weights.items():
                key = (feature, tag)
                weights[tag] = (self._totals[key] + (self._seen - self._since[key]) * weight) / self._seen

    def _predicted(self, features: list[str]) -> str:
        scores: dict[str, float] = defaultdict(float)
        for feature in features:
            for tag, weight in self.weights.get(feature, {}).items():
                scores[tag] += weight
        return max(COARSE, key=lambda tag: (scores[tag], tag))

    def _update(self, truth: str, guess: str, features: list[str]) -> None:
        self._seen += 1
        if truth == guess:
            return
        for feature in features:
            weights = self.weights.setdefault(feature, {})
            for tag, change in ((truth, 1.0), (guess, -1.0)):
                key, weight = (feature, tag), weights.get(tag, 0.0)
                self._totals[key] += (self._seen - self._since[key]) * weight
                self._since[key] = self._seen
                weights[tag] = weight + change

    def _note_certain(self, learnt: Sentences) -> None:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for words, tags in zip(learnt.words, learnt.tags, strict=True):
            for word, tag in zip(words, tags, strict=True):
                counts[word][tag] += 1
        for word, of_word in counts.items():
            ((tag, most),) = of_word.most_common(1)
            if (total := of_word.total()) >= 20 and most / total >= 0.97:
                self.certain[word] = tag


def _context(words: Sequence[str]) -> list[str]:
    return ["-START-", "-START2-", *map(_normal, words), "-END-", "-END2-"]


def _normal(word: str) -> str:
    if "-" in word and word[0] != "-":
        return "!HYPHEN"
    if word.isdigit() and len(word) == 4:
        return "!YEAR"
    return "!DIGITS" if word and word[0].isdigit() else word.lower()


def _features(place: int, word: str, context: list[str], last: str, before: str) -> list[str]:
    i = place + 2
    return [
        "bias",
        f"suffix {word[-3:]}",
        f"prefix {word[:1]}",
        f"tag-1 {last}",
        f"tag-2 {before}",
        f"tags {last} {before}",
        f"word {context[i]}",
        f"tag-1 word {last} {context[i]}",
        f"word-1 {context[i - 1]}",
        f"suffix-1 {context[i - 1][-3:]}",
        f"word-2 {context[i - 2]}",
        f"word+1 {context[i + 1]}",
        f"suffix+1 {context[i + 1][-3:]}",
        f"word+2 {context[i + 2]}",
    ]


def _accuracy(found: list[list[str]], test: Sentences) -> float:
    pairs = [pair for own, tags in zip(found, test.tags, strict=True) for pair in zip(own, tags, strict=True)]
    return sum(tag == truth for tag, truth in pairs) / len(pairs)


def _sentences() -> tuple[str, Sentences, Sentences]:
    if TREEBANK.is_dir():
        train, test = (str(TREEBANK / f"en_ewt-ud-{part}.conllu.gz") for part in ("train", "test"))
        return "EWT, 12 tags", read_tagged([train]).coarse(), read_tagged([test]).coarse()
    learnt, test = read_tagged([EMBEDDED]).coarse().part(every=10)
    return EMBEDDED, learnt, test


if __name__ == "__main__":
    run()
