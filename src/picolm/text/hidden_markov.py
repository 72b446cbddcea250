"""Word classes without annotation: a hidden Markov model, begun from anchor words and refined by EM.

Each class has an anchor, a word that no other class has (Stratos, Collins & Hsu 2016): the contexts of every other
word are then a mixture of the anchors' contexts, and the mixture says how often the word is in each class. What that
finds is where expectation maximization begins (Baum et al. 1970). Classes are numbered; which are nouns it cannot know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from picolm.errors import PicoLMError
from picolm.randomness import generator
from picolm.text.perceptron import shape
from picolm.text.segmentation import Segmentation
from picolm.text.tagger import Arrays, Codes, Tagger

LEAST = 3
"""Words that occur less often are taken together by their shape and ending."""
CONTEXTS = 1000
"""How many of the most frequent words a context tells apart."""
CANDIDATES = 300
"""How many of the most frequent words may be anchors."""
SMOOTHING = 1e-3
"""Added to every expected count: what was never seen is not impossible."""

_Floats = npt.NDArray[np.float64]
_Advance = Callable[[int, int], None]


class HiddenMarkovTagger(Tagger):
    """The likeliest classes of a whole sentence (Viterbi's algorithm), then each class by its name.

    Args:
        names: what is given out; several classes may have one name.
        segmentation: of texts.
        arrays: log-probabilities `initial` [K], `transition` [K, K] from row to column, `emission` [V, K]; and
            `name_of`, for each class its place in `names` [K].
        vocabulary: `known`, the words and kinds of words from row to row of `emission`.
    """

    method = "hidden_markov"

    def __init__(
        self, names: tuple[str, ...], segmentation: Segmentation, arrays: Arrays, vocabulary: Mapping[str, Any]
    ) -> None:
        self.names, self.segmentation, self.record = names, segmentation, {}
        self.known = {word: row for row, word in enumerate(vocabulary["known"])}
        self.initial, self.transition, self.emission = (arrays[key] for key in ("initial", "transition", "emission"))
        self.name_of = arrays["name_of"]
        n_classes = len(self.initial)
        if (
            self.transition.shape != (n_classes, n_classes)
            or self.emission.shape != (len(self.known), n_classes)
            or self.name_of.shape != (n_classes,)
            or not 0 <= self.name_of.min() <= self.name_of.max() < len(names)
        ):
            raise ValueError("its probabilities do not fit its classes")

    def codes(self, sentences: Sequence[Sequence[str]]) -> list[Codes]:
        """Tag sentences (see `Tagger.codes`)."""
        return [np.asarray(self.name_of[own] + 1, dtype=np.int64) for own in self.classes(sentences)]

    def classes(self, sentences: Sequence[Sequence[str]]) -> list[Codes]:
        """The classes of the words of sentences, each in range(K)."""
        corpus = _Corpus(sentences, self.known)
        if not len(corpus.rows):
            return [np.empty(0, dtype=np.int64) for _ in sentences]
        scores = self.emission[corpus.rows]
        best = self.initial + scores[corpus.at(0)]
        backs: list[Codes] = []
        for place in range(1, corpus.n_places):
            here = corpus.at(place)
            through = best[: len(here), :, None] + self.transition
            backs.append(through.argmax(1))
            best[: len(here)] = through.max(1) + scores[here]
        found = np.empty(len(corpus.rows), dtype=np.int64)
        state = best.argmax(1)
        for place in range(corpus.n_places - 1, 0, -1):
            here = corpus.at(place)
            found[here] = state[: len(here)]
            state[: len(here)] = backs[place - 1][np.arange(len(here)), state[: len(here)]]
        found[corpus.at(0)] = state
        return corpus.by_sentence(found)

    def named_by(self, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> HiddenMarkovTagger:
        """The same classes, each named by the tag that its words have most often (the many-to-one map).

        Args:
            sentences: words.
            tags: for each word.
        """
        names = tuple(sorted(set(chain.from_iterable(tags))))
        counts = np.zeros((len(self.initial), len(names)), dtype=np.int64)
        number = {name: place for place, name in enumerate(names)}
        for own, given in zip(self.classes(sentences), tags, strict=True):
            np.add.at(counts, (own, np.array([number[tag] for tag in given], dtype=np.int64)), 1)
        arrays = {**self.arrays(), "name_of": counts.argmax(1).astype(np.int64)}
        named = HiddenMarkovTagger(names, self.segmentation, arrays, self.vocabulary())
        named.record = dict(self.record)
        return named

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The log-probabilities and names."""
        return {
            "initial": self.initial,
            "transition": self.transition,
            "emission": self.emission,
            "name_of": self.name_of,
        }

    def vocabulary(self) -> dict[str, Any]:
        """What the rows of the emissions stand for."""
        return {"known": list(self.known)}


def kind_of(word: str) -> str:
    """What stands for a rare word: its shape, and its last two letters."""
    return f"\0{shape(word)[:4]}/{word[-2:].lower()}"


class _Corpus:
    """Sentences as numbers of words, read place by place, the longest first."""

    def __init__(self, sentences: Sequence[Sequence[str]], known: Mapping[str, int]) -> None:
        self._lengths = np.array([len(words) for words in sentences], dtype=np.int64)
        self.rows = np.array([_row(word, known) for words in sentences for word in words], dtype=np.int64)
        starts = np.cumsum(self._lengths) - self._lengths
        order = np.argsort(-self._lengths, kind="stable")
        self._starts, sorted_lengths = starts[order], self._lengths[order]
        self.n_places = int(self._lengths.max(initial=0))
        self._alive = np.searchsorted(-sorted_lengths, -np.arange(self.n_places), side="left")

    def at(self, place: int) -> Codes:
        """Where the words at a place of their sentences stand, of the sentences that have one."""
        return np.asarray(self._starts[: self._alive[place]] + place)

    def by_sentence(self, values: Codes) -> list[Codes]:
        """Part what is known of each word into sentences."""
        return np.split(values, np.cumsum(self._lengths)[:-1])


def _row(word: str, known: Mapping[str, int]) -> int:
    lower = word.lower()
    return known[lower] if lower in known else known.get(kind_of(word), 0)


def train_hidden_markov(
    sentences: Sequence[Sequence[str]],
    n_classes: int,
    *,
    iterations: int = 30,
    seed: int = 0,
    advance: _Advance = lambda done, total: None,
) -> HiddenMarkovTagger:
    """Learn classes from sentences that are not tagged.

    Args:
        sentences: words.
        n_classes: K.
        iterations: of EM; 0: as the anchors have it.
        seed: of what the anchors leave open.
        advance: told how many iterations are done, and of how many.

    Raises:
        PicoLMError: there are fewer words than classes.
    """
    counts = Counter(word.lower() for words in sentences for word in words)
    kept = [word for word, count in counts.most_common() if count >= LEAST]
    if len(kept) < n_classes:
        raise PicoLMError(f"{len(kept)} words occur {LEAST} times or more, too few for {n_classes} classes: give more")
    frequent = frozenset(kept)
    kinds = sorted({kind_of(word) for words in sentences for word in words if word.lower() not in frequent})
    # The first one stands for kinds that were never seen.
    known = {word: row for row, word in enumerate(["\0", *kept, *kinds])}
    corpus = _Corpus(sentences, known)
    model = _begun(corpus, len(known), len(kept), n_classes, seed)
    for number in range(iterations):
        model = _improved(model, corpus, len(known))
        advance(number + 1, iterations)
    arrays: dict[str, npt.NDArray[Any]] = {
        **{key: np.log(value).astype(np.float32) for key, value in model.items()},
        "name_of": np.arange(n_classes, dtype=np.int64),
    }
    names = tuple(f"C{number}" for number in range(1, n_classes + 1))
    return HiddenMarkovTagger(names, Segmentation(chain.from_iterable(sentences)), arrays, {"known": list(known)})


def _begun(corpus: _Corpus, n_rows: int, n_kept: int, n_classes: int, seed: int) -> dict[str, _Floats]:
    """The model that anchors give; transitions are even, and left to EM."""
    frequency = np.bincount(corpus.rows, minlength=n_rows) + SMOOTHING
    contexts = _contexts(corpus, n_rows, n_kept)
    # Rows 1.. are the words by frequency.
    candidates = np.arange(1, 1 + min(CANDIDATES, n_kept))
    anchors = _anchors(contexts[candidates], n_classes)
    shares = _mixtures(contexts, contexts[candidates[anchors]])
    noise = generator(seed, "hidden_markov").uniform(0.99, 1.01, shares.shape)
    joint = shares * frequency[:, None] * noise + SMOOTHING / n_rows
    even = np.full(n_classes, 1 / n_classes)
    return {"initial": even, "transition": np.tile(even, (n_classes, 1)), "emission": joint / joint.sum(0)}


def _contexts(corpus: _Corpus, n_rows: int, n_kept: int) -> _Floats:
    """How often each of the frequent words stands before and behind each word, as shares [V, 2 C]."""
    n_contexts = min(CONTEXTS, n_kept) + 1
    table = np.zeros((n_rows, 2 * n_contexts))
    for place in range(corpus.n_places):
        here = corpus.rows[corpus.at(place)]
        if place:
            before = corpus.rows[corpus.at(place) - 1]
            np.add.at(table, (here, np.minimum(before, n_contexts - 1)), 1.0)
            np.add.at(table, (before, n_contexts + np.minimum(here, n_contexts - 1)), 1.0)
        else:
            np.add.at(table[:, 0], here, 1.0)
    total = table.sum(1, keepdims=True)
    # The root of a share weighs rare contexts up, as in Stratos et al. (2015).
    return np.asarray(np.sqrt(table / np.maximum(total, 1.0)))


def _anchors(rows: _Floats, n_classes: int) -> Codes:
    """The rows whose hull holds the others: each the farthest from the span of those before (Arora et al. 2012)."""
    rest = rows - rows.mean(0)
    found = []
    for _ in range(n_classes):
        farthest = int(np.square(rest).sum(1).argmax())
        found.append(farthest)
        direction = rest[farthest] / max(np.linalg.norm(rest[farthest]), 1e-12)
        rest = rest - np.outer(rest @ direction, direction)
    return np.array(found, dtype=np.int64)


def _mixtures(rows: _Floats, anchors: _Floats, steps: int = 200) -> _Floats:
    """Weights on the simplex by which the anchors come nearest to each row [V, K], by exponentiated gradient."""
    shares = np.full((len(rows), len(anchors)), 1 / len(anchors))
    gram, target = anchors @ anchors.T, rows @ anchors.T
    rate = 1.0 / max(float(np.abs(gram).max()), 1e-12)
    for _ in range(steps):
        slope = shares @ gram - target
        shares = shares * np.exp(-rate * (slope - slope.min(1, keepdims=True)))
        shares /= shares.sum(1, keepdims=True)
    return shares


def _improved(model: Mapping[str, _Floats], corpus: _Corpus, n_rows: int) -> dict[str, _Floats]:
    """One step of EM: the scaled forward and backward passes of all sentences at once, place by place."""
    transition, emitted = model["transition"], model["emission"][corpus.rows]
    forward = np.empty_like(emitted)
    scale = np.empty(len(emitted))
    for place in range(corpus.n_places):
        here = corpus.at(place)
        reached = forward[here - 1] @ transition if place else model["initial"]
        joint = reached * emitted[here]
        scale[here] = joint.sum(1)
        forward[here] = joint / scale[here, None]
    backward = np.ones_like(emitted)
    pairs = np.zeros_like(transition)
    for place in range(corpus.n_places - 1, 0, -1):
        here = corpus.at(place)
        behind = emitted[here] * backward[here] / scale[here, None]
        pairs += forward[here - 1].T @ behind
        backward[here - 1] = behind @ transition.T
    posterior = forward * backward
    pairs = pairs * transition + SMOOTHING
    first = posterior[corpus.at(0)].sum(0) + SMOOTHING
    columns = [np.bincount(corpus.rows, column, minlength=n_rows) for column in posterior.T]
    emission = np.stack(columns, axis=1).astype(np.float64) + SMOOTHING / n_rows
    return {
        "initial": first / first.sum(),
        "transition": pairs / pairs.sum(1, keepdims=True),
        "emission": emission / emission.sum(0),
    }
