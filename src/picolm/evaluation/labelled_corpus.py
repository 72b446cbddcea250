"""The training, dev and test texts of a classification, as a model reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray
from picolm.evaluation.labelled_files import Fields, Labelled, held_out, label_numbers, read_labelled, sample
from picolm.evaluation.readout import Example, Piece
from picolm.evaluation.scoring import encode
from picolm.evaluation.task import Material


@dataclass(frozen=True, slots=True)
class Files:
    """Where the texts of a classification are.

    Attributes:
        train: the texts to learn from.
        dev: the texts to choose by; None: a share of the training texts is held out.
        tests: the texts that are asked, by name.
    """

    train: Path
    dev: Path | None
    tests: Mapping[str, Path]

    def by_name(self) -> dict[str, Path]:
        """All of them."""
        dev = {} if self.dev is None else {"dev": self.dev}
        return {"train": self.train, **dev, **{f"test/{name}": path for name, path in self.tests.items()}}


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the texts.

    Attributes:
        examples: each has one piece and one unit.
        places: file and line of each.
        n_cut: how many were longer than the window.
    """

    examples: list[Example]
    places: list[str]
    n_cut: int

    @property
    def gold(self) -> IntArray:
        """The numbers of the right labels [N]."""
        return np.array([example.labels[0] for example in self.examples], dtype=np.int64)


@dataclass(frozen=True)
class Corpus:
    """All of the texts.

    Attributes:
        labels: those of the training file, sorted; their places are their numbers.
        train: the texts to learn from.
        dev: the texts to choose by.
        tests: further texts, by name.
    """

    labels: tuple[str, ...]
    train: Part
    dev: Part
    tests: Mapping[str, Part]

    @property
    def asked_parts(self) -> dict[str, Part]:
        """What figures are of, by subset: the tests, or the dev texts where there is none."""
        return {f"test/{name}": part for name, part in self.tests.items()} or {"dev": self.dev}

    @cached_property
    def asked(self) -> list[Example]:
        """All that is asked, in one list, so that a frozen model reads it once for all seeds."""
        if not self.tests:
            return self.dev.examples
        return [example for part in self.tests.values() for example in part.examples]


def read_corpus(files: Files, fields: Fields, material: Material, *, dev_fraction: float, texts: int) -> Corpus:
    """Read and encode all files.

    Args:
        files: where they are.
        fields: the names of their fields.
        material: the target's tokenizer, window and kind.
        dev_fraction: share of the training texts to hold out where there is no dev file; 0: none.
        texts: how many training texts to draw of what is left then; 0: all.

    Raises:
        PicoLMError: a file is not what it must be, or has a label that the training file does not have.
    """
    train = read_labelled(files.train, fields)
    labels = tuple(sorted({text.label for text in train}))
    if len(labels) < 2:
        raise PicoLMError(f"all texts in {files.train} have the label '{labels[0]}': there is nothing to tell apart")
    dev: list[Labelled] = []
    if files.dev is not None:
        dev = read_labelled(files.dev, fields)
    elif dev_fraction:
        train, dev = held_out(train, dev_fraction)
    train = sample(train, texts) if texts else train
    if not train:
        raise PicoLMError(f"{files.train} has no text left to learn from: name a dev file instead of holding texts out")

    def part(some: Sequence[Labelled]) -> Part:
        examples, n_cut = examples_of(some, label_numbers(some, labels, files.train), material)
        return Part(examples, [text.place for text in some], n_cut)

    tests = {name: part(read_labelled(path, fields)) for name, path in files.tests.items()}
    return Corpus(labels, part(train), part(dev), tests)


def examples_of(texts: Sequence[Labelled], labels: Sequence[int], material: Material) -> tuple[list[Example], int]:
    """Encode texts, each behind the token that begins a text, the separator between those of a pair.

    A masked model reads one more such token at the end, as it does where it is scored. The one unit of a causal model
    is the text itself, whose last token has read all of it; that of a masked model is all that is read, of which the
    first token is what others call [CLS].

    Returns:
        Examples, and how many texts were cut to the window (see `cut`).
    """
    closing = [] if material.is_causal else [material.bos]
    firsts = encode(material.tokenizer, [text.text for text in texts])
    is_pair = bool(texts) and texts[0].pair is not None
    seconds = encode(material.tokenizer, [text.pair or "" for text in texts]) if is_pair else [None] * len(texts)
    room = material.window - 1 - len(closing) - is_pair
    found, n_cut = [], 0
    for first, second, label in zip(firsts, seconds, labels, strict=True):
        n_first, n_second = cut(len(first), 0 if second is None else len(second), room)
        n_cut += n_first < len(first) or (second is not None and n_second < len(second))
        rest = [] if second is None else [material.tokenizer.separator_id, *second[:n_second]]
        tokens = np.array([material.bos, *first[:n_first], *rest, *closing], dtype=np.int64)
        begin = min(1, len(tokens) - 1) if material.is_causal else 0
        piece = Piece(tokens, np.array([0]), np.array([begin]), np.array([len(tokens) - 1]))
        found.append(Example((piece,), np.array([label], dtype=np.int64)))
    return found, n_cut


def cut(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens are kept of two texts that must share a window: ends are cut off, of the longer one first.

    Args:
        first: tokens of one text.
        second: tokens of the other; 0: there is none.
        room: for both.
    """
    kept = min(first, max(room - second, room - room // 2 if second else room))
    return kept, min(second, room - kept)
