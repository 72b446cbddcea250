"""The averaged-perceptron tagger (Collins 2002), from left to right, with the tags before a word as features.

What a word shows of itself depends on the word alone, so what it adds to the score of each tag, at each place around
the word that is tagged, is looked up by word. Many sentences are tagged at once, place by place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from picolm.randomness import generator
from picolm.text.segmentation import Segmentation
from picolm.text.tagger import Arrays, Codes, Tagger

OFFSETS = (0, -1, 1, -2, 2)
"""The places around a word that are looked at; the first is its own."""
BORDER = "\0"
"""Stands where a sentence has no word any more."""
LEAST = 2
"""What fewer training words show is as good as unknown, so that the unknown is learnt about as well."""
FREQUENT = 10
"""From how many occurrences on a word is looked at together with the tag before it."""

_Floats = npt.NDArray[np.float32]
_Advance = Callable[[int, int], None]


def shown(word: str, offset: int) -> list[str]:
    """What a word shows at a place around the tagged one, each as `template=value`."""
    lower = word.lower()
    if abs(offset) == 2:
        return [f"w={lower}"]
    near = [f"w={lower}", f"s3={lower[-3:]}", f"x={shape(word)}"]
    if offset:
        return near
    ends = [f"s{n}={lower[-n:]}" for n in (1, 2, 4)]
    return [*near, *ends, *(f"p{n}={lower[:n]}" for n in (1, 2, 3)), f"c={word}", "b="]


def shape(word: str) -> str:
    """Capitals, small letters, digits and marks, each run as one: `McDonald's` is `XxXx'x`."""
    kinds = ["X" if c.isupper() else "x" if c.isalpha() else "0" if c.isdigit() else c for c in word]
    return "".join(kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before)


class PerceptronTagger(Tagger):
    """Scores each tag by the weights of what is seen, and takes the best.

    Args:
        names: the tags, K of them.
        segmentation: of texts.
        arrays: `static` [F, K], `previous` [K + 1, K + 1, K] by the two tags before, `word` [K + 1, W + 1, K] by the
            tag before and a frequent word; number K stands for the border, and W for every other word.
        vocabulary: `features`, for each offset and template the values from row to row of `static`; `frequent` words.
    """

    method = "perceptron"

    def __init__(
        self, names: tuple[str, ...], segmentation: Segmentation, arrays: Arrays, vocabulary: Mapping[str, Any]
    ) -> None:
        self.names, self.segmentation, self.record = names, segmentation, {}
        self.features = Features(vocabulary["features"], vocabulary["frequent"])
        self.static, self.previous, self.word = (arrays[name] for name in ("static", "previous", "word"))
        n_tags, n_words = len(names), len(vocabulary["frequent"])
        if (
            self.static.shape != (len(self.features), n_tags)
            or self.previous.shape != (n_tags + 1, n_tags + 1, n_tags)
            or self.word.shape != (n_tags + 1, n_words + 1, n_tags)
        ):
            raise ValueError("its weights do not fit its tags")
        self._seen: dict[str, tuple[_Floats, int]] = {}

    def codes(self, sentences: Sequence[Sequence[str]]) -> list[Codes]:
        """Tag sentences (see `Tagger.codes`)."""
        n_tags, lengths = len(self.names), np.array([len(words) for words in sentences], dtype=np.int64)
        if not lengths.sum():
            return [np.empty(0, dtype=np.int64) for _ in sentences]
        scores, words = self._static(sentences)
        starts = np.cumsum(lengths) - lengths
        found = np.empty(int(lengths.sum()), dtype=np.int64)
        # Longest first, so that those that still have a word at a place are the first ones.
        order = np.argsort(-lengths, kind="stable")
        before, last = (np.full(len(order), n_tags, dtype=np.int64) for _ in range(2))
        alive = len(order)
        for place in range(int(lengths.max())):
            while lengths[order[alive - 1]] <= place:
                alive -= 1
            here = starts[order[:alive]] + place
            first, second = last[:alive], before[:alive]
            total = scores[here] + self.previous[second, first] + self.word[first, words[here]]
            best = total.argmax(1)
            found[here] = best
            before[:alive], last[:alive] = first.copy(), best
        return np.split(found + 1, np.cumsum(lengths)[:-1])

    def _static(self, sentences: Sequence[Sequence[str]]) -> tuple[_Floats, Codes]:
        """What all words show, summed over the places around each [N, K]; and each word's number among the frequent."""
        number: dict[str, int] = {BORDER: 0}
        ids = [[number.setdefault(word, len(number)) for word in words] for words in sentences]
        seen = [self._of_word(word) for word in number]
        tables = np.stack([scores for scores, _ in seen])
        frequent = np.array([place for _, place in seen], dtype=np.int64)
        padded = np.array(list(chain.from_iterable((0, 0, *row, 0, 0) for row in ids)), dtype=np.int64)
        real = np.flatnonzero(np.array(list(chain.from_iterable((0, 0, *(1 for _ in row), 0, 0) for row in ids))))
        total = sum(tables[padded[real + offset], column] for column, offset in enumerate(OFFSETS))
        return np.asarray(total, dtype=np.float32), frequent[padded[real]]

    def _of_word(self, word: str) -> tuple[_Floats, int]:
        if word not in self._seen:
            if len(self._seen) >= 2**18:
                self._seen.clear()
            rows = [self.features.of(word, offset) for offset in OFFSETS]
            scores = np.stack([self.static[own].sum(0) for own in rows])
            self._seen[word] = (scores, self.features.frequent.get(word.lower(), len(self.features.frequent)))
        return self._seen[word]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The weights."""
        return {"static": self.static, "previous": self.previous, "word": self.word}

    def vocabulary(self) -> dict[str, Any]:
        """What the rows of the weights stand for."""
        return {"features": self.features.values, "frequent": list(self.features.frequent)}


class Features:
    """What words show -> rows of weights. Each offset and template has a row for what is not known.

    Args:
        values: by `offset/template`, what is known.
        frequent: words that are looked at together with the tag before them.
    """

    def __init__(self, values: Mapping[str, Sequence[str]], frequent: Sequence[str]) -> None:
        self.values = {name: list(known) for name, known in values.items()}
        self.frequent = {word: place for place, word in enumerate(frequent)}
        self._rows: dict[str, tuple[int, dict[str, int]]] = {}
        first = 0
        for name, known in self.values.items():
            self._rows[name] = (first, {value: first + 1 + place for place, value in enumerate(known)})
            first += 1 + len(known)
        self._length = first

    def __len__(self) -> int:
        return self._length

    def of(self, word: str, offset: int) -> list[int]:
        """The rows that a word at a place around the tagged one stands for."""
        rows = []
        for feature in shown(word, offset):
            template, _, value = feature.partition("=")
            unknown, known = self._rows[f"{offset}/{template}"]
            rows.append(known.get(value, unknown))
        return rows

    @classmethod
    def found_in(cls, sentences: Sequence[Sequence[str]]) -> Features:
        """Collect what the words of some sentences show."""
        words = Counter(chain.from_iterable(sentences))
        words[BORDER] = 2 * len(sentences)
        values: dict[str, list[str]] = {}
        for offset in OFFSETS:
            counted: dict[str, Counter[str]] = {}
            for word, count in words.items():
                for feature in shown(word, offset):
                    template, _, value = feature.partition("=")
                    counted.setdefault(template, Counter())[value] += count
            for template, of_template in counted.items():
                values[f"{offset}/{template}"] = sorted(v for v, count in of_template.items() if count >= LEAST)
        lower: Counter[str] = Counter()
        for word, count in words.items():
            lower[word.lower()] += count
        return cls(values, sorted(word for word, count in lower.items() if count >= FREQUENT and word != BORDER))


def train_perceptron(
    sentences: Sequence[Sequence[str]],
    tags: Sequence[Sequence[int]],
    names: tuple[str, ...],
    *,
    passes: int = 5,
    seed: int = 0,
    advance: _Advance = lambda done, total: None,
) -> PerceptronTagger:
    """Learn from tagged sentences: the weights of every moment, averaged.

    Args:
        sentences: words.
        tags: for each word an index in `names`.
        names: the tags.
        passes: over all sentences, each in another keyed order.
        seed: of those orders.
        advance: told how many sentences are done, and of how many.
    """
    learner = _Learner(Features.found_in(sentences), len(names))
    numbered = [learner.rows_of(words) for words in sentences]
    gold = [np.array(own, dtype=np.int64).tolist() for own in tags]
    done = 0
    for number in range(passes):
        for index in generator(seed, "tagger", number).permutation(len(sentences)).tolist():
            rows, frequent = numbered[index]
            learner.learn(rows, frequent, gold[index])
            done += 1
            advance(done, passes * len(sentences))
    arrays = learner.averaged()
    vocabulary = {"features": learner.features.values, "frequent": list(learner.features.frequent)}
    return PerceptronTagger(names, Segmentation(chain.from_iterable(sentences)), arrays, vocabulary)


class _Learner:
    """Weights of all kinds as rows of one matrix, and beside them the same weighted by when they changed."""

    def __init__(self, features: Features, n_tags: int) -> None:
        self.features, self.n_tags = features, n_tags
        self.n_words = len(features.frequent) + 1
        self.first_pair = len(features)
        self.first_word = self.first_pair + (n_tags + 1) ** 2
        n_rows = self.first_word + (n_tags + 1) * self.n_words
        self.weights = np.zeros((n_rows, n_tags), dtype=np.float64)
        self.moments = np.zeros_like(self.weights)
        self.clock = 1

    def rows_of(self, words: Sequence[str]) -> tuple[npt.NDArray[np.int32], list[int]]:
        """The rows of each word with two places left for the tags before it, int32 [T, S]; and its frequent number."""
        padded = [BORDER, BORDER, *words, BORDER, BORDER]
        rows = [
            [row for offset in OFFSETS for row in self.features.of(padded[place + offset], offset)] + [0, 0]
            for place in range(2, len(words) + 2)
        ]
        frequent = self.features.frequent
        return np.array(rows, dtype=np.int32), [frequent.get(word.lower(), len(frequent)) for word in words]

    def learn(self, rows: npt.NDArray[np.int32], frequent: list[int], gold: list[int]) -> None:
        """Tag a sentence, and move the weights at each mistake; its own tags are what the next words see."""
        second = first = border = self.n_tags
        for own, word, wanted in zip(rows, frequent, gold, strict=True):
            own[-2] = self.first_pair + second * (border + 1) + first
            own[-1] = self.first_word + first * self.n_words + word
            found = int(self.weights.take(own, axis=0).sum(0).argmax())
            if found != wanted:
                self.weights[own, wanted] += 1.0
                self.weights[own, found] -= 1.0
                self.moments[own, wanted] += self.clock
                self.moments[own, found] -= self.clock
            self.clock += 1
            second, first = first, found

    def averaged(self) -> dict[str, _Floats]:
        """The mean of the weights over all moments, in their own shapes."""
        mean = (self.weights - self.moments / self.clock).astype(np.float32)
        n_tags = self.n_tags
        return {
            "static": mean[: self.first_pair],
            "previous": mean[self.first_pair : self.first_word].reshape(n_tags + 1, n_tags + 1, n_tags),
            "word": mean[self.first_word :].reshape(n_tags + 1, self.n_words, n_tags),
        }
