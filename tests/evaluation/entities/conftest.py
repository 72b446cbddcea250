"""Sentences with names that are easily learned: each word has its own type, but for one that depends on its context."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

Tagged = list[tuple[str, str]]
FILLERS = ["the", "dog", "sees", "here", "and", "cats"]
NAMES = {
    "PER": [["Ana"], ["Juan"], ["Juan", "Cruz"]],
    "ORG": [["Acme"], ["Bank", "of", "Ruritania"]],
    "LOC": [["Cebu"], ["Manila"], ["Cebu", "City"]],
}


def planted(count: int, seed: int, fillers: Sequence[str] = FILLERS) -> list[Tagged]:
    """Sentences of fillers with up to three names in them, the names of equal types apart."""
    draw = np.random.default_rng(seed)
    sentences = []
    for _ in range(count):
        sentence: Tagged = [(str(draw.choice(fillers)), "O")]
        for _ in range(draw.integers(0, 4)):
            kind = str(draw.choice(list(NAMES)))
            name = NAMES[kind][draw.integers(len(NAMES[kind]))]
            sentence += [(word, f"{'I' if place else 'B'}-{kind}") for place, word in enumerate(name)]
            sentence += [(str(draw.choice(fillers)), "O") for _ in range(draw.integers(1, 4))]
        sentences.append(sentence)
    return sentences


def written(sentences: Sequence[Tagged]) -> str:
    """Universal NER's form."""
    blocks = []
    for number, sentence in enumerate(sentences):
        lines = [f"# sent_id = {number}", f"# text = {' '.join(word for word, _ in sentence)}"]
        lines += [f"{place}\t{word}\t{tag}\t-\t-" for place, (word, tag) in enumerate(sentence, start=1)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


@pytest.fixture
def write_set(tmp_path: Path) -> Callable[..., Path]:
    """Write the files of a set, each given by its sentences, into a directory of its own."""

    def write(name: str, **parts: Sequence[Tagged] | str) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        for part, content in parts.items():
            text = content if isinstance(content, str) else written(content)
            (directory / f"{name}-ud-{part}.iob2").write_text(text, encoding="utf-8")
        return directory

    return write


@pytest.fixture
def easy(write_set: Callable[..., Path]) -> Path:
    return write_set("xx_easy", train=planted(150, 0), dev=planted(60, 1), test=planted(60, 2))
