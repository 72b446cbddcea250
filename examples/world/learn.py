"""Train a small model on the embedded world and test it on minimal pairs, beside two scorers that only count.

    python examples/world/learn.py --steps 400

A pair counts as right when the good sentence has the higher summed log-probability, as half when both have the same.
The model reads each sentence behind the separator, as it read documents in training. `unigram` and `bigram` count the
words of the same documents, in small letters; the bigram is interpolated with the unigram. The world is built so that
the unigram is at chance.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch

import picolm
from picolm.model.transformer import Transformer
from picolm.text.tokenizer import Tokenizer
from picolm.text.world import MinimalPair, minimal_pairs, open_corpus

Score = Callable[[Sequence[str]], list[float]]

_DOCUMENTS_AT_ONCE = 128


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="embedded:english")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=200, help="of each paradigm; even")
    parser.add_argument("--run", help="score a run that is there instead of training one")
    given = parser.parse_args()
    began = time.monotonic()
    run = given.run or train(given.corpus, given.steps)
    print(f"{run}: trained in {time.monotonic() - began:.0f} s")
    pairs = minimal_pairs(count=given.pairs, corpus=given.corpus)
    unigram, bigram = counting_scores(document.text for document in open_corpus(given.corpus).documents())
    scores = {"model": model_score(*picolm.open_model(run)), "unigram": unigram, "bigram": bigram}
    right = {name: judge(score, pairs) for name, score in scores.items()}
    for group in ("phenomenon", "paradigm"):
        print_table(group, [getattr(pair, group) for pair in pairs], right)
    print_table("frequency", [pair.frequency_band for pair in pairs], right)


def train(corpus: str, steps: int) -> str:
    """Train the demo's model on a corpus; return where the run lies."""
    changes = {
        "data.sources": [corpus],
        "training.steps": steps,
        "validation.every": max(1, steps // 3),
        "samples.prompts": [],
    }
    return str(picolm.train(picolm.load_config("demo", changes), stem="world").path)


def model_score(model: Transformer, tokenizer: Tokenizer) -> Score:
    """Return a scorer: the summed log-probability of a sentence's tokens behind the separator, in nats."""
    model.eval()

    def score(sentences: Sequence[str]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(sentences), _DOCUMENTS_AT_ONCE):
            ids = tokenizer.encode_batch(sentences[start : start + _DOCUMENTS_AT_ONCE])
            length = 1 + max(map(len, ids))
            # Padding stands behind every real token, so a causal model never sees it.
            tokens = torch.full((len(ids), length), tokenizer.separator_id)
            for row, sentence in enumerate(ids):
                tokens[row, 1 : 1 + len(sentence)] = torch.from_numpy(sentence)
            with torch.no_grad():
                logits = model(tokens[:, :-1]) @ model.output_matrix.T
            log_p = logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
            found += [float(log_p[row, : len(sentence)].double().sum()) for row, sentence in enumerate(ids)]
        return found

    return score


def words_of(text: str) -> list[str]:
    """Return words and marks in small letters."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def counting_scores(texts: Iterable[str]) -> tuple[Score, Score]:
    """Return the unigram and the bigram scorer of a corpus; a sentence begins behind a full stop."""
    ones: Counter[str] = Counter()
    twos: Counter[tuple[str, str]] = Counter()
    for text in texts:
        tokens = [".", *words_of(text)]
        ones.update(tokens[1:])
        twos.update(pairwise(tokens))
    total = sum(ones.values()) + len(ones) + 1
    # Sorted before they are added: sums in another order would differ in the last digit, and ties would look decided.
    log_p = {word: math.log((count + 1) / total) for word, count in ones.items()}
    unseen = math.log(1 / total)

    def unigram(sentence: str) -> float:
        return sum(sorted(log_p.get(word, unseen) for word in words_of(sentence)))

    def bigram(sentence: str) -> float:
        terms = []
        for before, word in pairwise([".", *words_of(sentence)]):
            seen = twos[before, word] / ones[before] if ones[before] else 0.0
            terms.append(math.log(0.9 * seen + 0.1 * math.exp(log_p.get(word, unseen))))
        return sum(sorted(terms))

    return (
        lambda sentences: [unigram(sentence) for sentence in sentences],
        lambda sentences: [bigram(sentence) for sentence in sentences],
    )


def judge(score: Score, pairs: Sequence[MinimalPair]) -> list[float]:
    """Return for each pair 1 where it is judged rightly, 0.5 for a tie."""
    good, bad = score([pair.good for pair in pairs]), score([pair.bad for pair in pairs])
    return [0.5 if g == b else float(g > b) for g, b in zip(good, bad, strict=True)]


def interval(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def print_table(title: str, groups: Sequence[str], right: dict[str, list[float]]) -> None:
    """Print accuracies in per cent with their intervals, group by group."""
    print(f"\n{title:36}{'pairs':>6}" + "".join(f"{name:>20}" for name in right))
    for group in dict.fromkeys(groups):
        members = [place for place, name in enumerate(groups) if name == group]
        row = f"{group:36}{len(members):>6}"
        for judged in right.values():
            share = sum(judged[place] for place in members) / len(members)
            low, high = interval(share, len(members))
            row += f"{100 * share:8.1f} [{100 * low:3.0f}, {100 * high:3.0f}]"
        print(row)


if __name__ == "__main__":
    main()
