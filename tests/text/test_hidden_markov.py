"""The hidden Markov tagger: against all paths, written out; and what it finds where there is something to find."""

from itertools import chain, product
from pathlib import Path

import numpy as np
import pytest

from picolm.errors import PicoLMError
from picolm.randomness import generator
from picolm.text.hidden_markov import HiddenMarkovTagger, _Corpus, _improved, train_hidden_markov
from picolm.text.segmentation import Segmentation
from picolm.text.tagger import load_tagger
from picolm.text.tagger_training import train_unsupervised

WORDS = ["a", "b", "c", "d"]
SENTENCES = [["a", "b", "c"], ["d"], ["b", "b", "a", "d"], ["c", "a"]]


def model(seed: int = 0) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    draw = generator(seed, "test")
    initial, transition, emission = draw.random(3), draw.random((3, 3)), draw.random((5, 3))
    return {
        "initial": initial / initial.sum(),
        "transition": transition / transition.sum(1, keepdims=True),
        "emission": emission / emission.sum(0),
    }


def paths(given: dict[str, np.ndarray], words: list[str]) -> dict[tuple[int, ...], float]:  # type: ignore[type-arg]
    """The joint probability of the words and each path."""
    rows = [1 + WORDS.index(word) for word in words]
    found = {}
    for path in product(range(3), repeat=len(words)):
        p = given["initial"][path[0]]
        for place, state in enumerate(path):
            p *= given["emission"][rows[place], state] * (given["transition"][path[place - 1], state] if place else 1.0)
        found[path] = float(p)
    return found


def tagger_of(given: dict[str, np.ndarray]) -> HiddenMarkovTagger:  # type: ignore[type-arg]
    arrays = {**{name: np.log(value) for name, value in given.items()}, "name_of": np.arange(3)}
    return HiddenMarkovTagger(("C1", "C2", "C3"), Segmentation(WORDS), arrays, {"known": ["\0", *WORDS]})


@pytest.mark.parametrize("seed", range(5))
def test_the_path_is_the_likeliest_of_all(seed: int) -> None:
    given = model(seed)
    for words, found in zip(SENTENCES, tagger_of(given).classes(SENTENCES), strict=True):
        joint = paths(given, words)
        assert tuple(found.tolist()) == max(joint, key=lambda path: joint[path])


@pytest.mark.parametrize("seed", range(3))
def test_a_step_of_em_counts_what_all_paths_expect(seed: int) -> None:
    given = model(seed)
    initial, transition, emission = np.zeros(3), np.zeros((3, 3)), np.zeros((5, 3))
    for words in SENTENCES:
        joint = paths(given, words)
        total = sum(joint.values())
        for path, p in joint.items():
            initial[path[0]] += p / total
            for place, state in enumerate(path):
                emission[1 + WORDS.index(words[place]), state] += p / total
                if place:
                    transition[path[place - 1], state] += p / total
    found = _improved(given, _Corpus(SENTENCES, {"\0": 0} | {word: 1 + n for n, word in enumerate(WORDS)}), 5)
    # Apart from the smoothing, a thousandth of a count.
    np.testing.assert_allclose(found["initial"], initial / initial.sum(), atol=2e-3)
    np.testing.assert_allclose(found["transition"], transition / transition.sum(1, keepdims=True), atol=3e-3)
    np.testing.assert_allclose(found["emission"], emission / emission.sum(0), atol=2e-3)


def language(n: int) -> tuple[list[list[str]], list[list[str]]]:
    """Determiner, adjectives, noun, verb: classes that only their order tells apart."""
    lexicon = {"DET": 3, "ADJ": 12, "NOUN": 25, "VERB": 15}
    draw = generator(0, "language")
    words, tags = [], []
    for _ in range(n):
        own = ["DET", *["ADJ"] * int(draw.integers(0, 3)), "NOUN", "VERB", "DET", "NOUN"]
        words.append([f"{tag[0]}{int(draw.integers(lexicon[tag]))}" for tag in own])
        tags.append(own)
    # Letters say nothing: every word is spelled by its number in a keyed order.
    names = {word: f"w{number}" for number, word in enumerate(sorted({w for own in words for w in own}))}
    return [[names[word] for word in own] for own in words], tags


def test_classes_that_differ_in_where_they_stand_are_found(tmp_path: Path) -> None:
    words, tags = language(1500)
    begun, learnt = (train_hidden_markov(words, 4, iterations=n) for n in (0, 40))
    shares = []
    for tagger in (begun, learnt):
        named = tagger.named_by(words, tags)
        codes = [named.names[code - 1] for own in named.codes(words) for code in own]
        shares.append(np.mean([code == tag for code, tag in zip(codes, chain.from_iterable(tags), strict=True)]))
    assert shares[1] >= shares[0] and shares[1] > 0.97
    assert learnt.names == ("C1", "C2", "C3", "C4")
    learnt.save(tmp_path / "c.tagger")
    assert load_tagger(tmp_path / "c.tagger").to_bytes() == learnt.to_bytes()
    assert train_hidden_markov(words, 4, iterations=40).to_bytes() == learnt.to_bytes()


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match="1 words occur 3 times or more, too few for 4 classes"):
        train_hidden_markov([["a", "a", "a", "b"]], 4)
    with pytest.raises(PicoLMError, match="numbered classes have no score"):
        train_unsupervised(["embedded:english"], n_classes=4, held_out=["embedded:english"])
