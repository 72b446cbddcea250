"""The training, dev and test sentences of named entities, as a model reads them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray
from picolm.evaluation.entities.alignment import examples_of, place_words
from picolm.evaluation.entities.iob2 import OUTSIDE, TAGS, Sentence, dropping, read_sentences
from picolm.evaluation.entities.spans import illegal_starts, repaired
from picolm.evaluation.readout import Example
from picolm.evaluation.task import Material
from picolm.randomness import generator

RESERVED = ("all", "pooled", "train", "dev")
"""Subsets that are no test set's."""
_LABELS = {tag: label for label, tag in enumerate(TAGS)}


@dataclass(frozen=True, slots=True)
class Files:
    """Where the sentences are.

    Attributes:
        train: those to learn from.
        dev: those to choose by; None: there are none.
        tests: those that are asked, by name.
    """

    train: Path
    dev: Path | None
    tests: Mapping[str, Path]

    def by_name(self) -> dict[str, Path]:
        """All of them."""
        return {"train": self.train, **({"dev": self.dev} if self.dev else {}), **self.tests}


def find_files(
    directory: str | None, train: str | None, dev: str | None, test: str | None, transfer: Sequence[str]
) -> Files:
    """Find the files of Universal NER's layout: `*-train.iob2`, `*-dev.iob2` and `*-test.iob2` in one directory.

    Args:
        directory: with the files; None: there is none, so `train` must be given.
        train: a file that takes the place of the directory's; None: none does.
        dev: likewise.
        test: likewise.
        transfer: further test files, or directories with one each.

    Raises:
        PicoLMError: a directory is not there or has several files of a kind, there is none to learn from or none to
            ask, or two test files have one name.
    """
    own = None if directory is None else Path(directory).expanduser()

    def named(value: str | None, kind: str) -> Path | None:
        if value is not None:
            return Path(value).expanduser()
        return None if own is None else _only(own, kind)

    found = named(train, "train")
    if found is None:
        raise PicoLMError(f"{own} has no *-train.iob2: a set without one is asked as transfer={own}, beside another")
    asked = [named(test, "test"), *(_test_file(Path(value).expanduser()) for value in transfer)]
    tests = _by_name([path for path in asked if path is not None])
    if not tests:
        raise PicoLMError("there is nothing to measure on: name a test file, as in test=... or transfer=...")
    return Files(found, named(dev, "dev"), tests)


def _test_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = _only(path, "test")
    if found is None:
        raise PicoLMError(f"{path} has no *-test.iob2: name a file, or a directory that has one")
    return found


def _only(directory: Path, kind: str) -> Path | None:
    if not directory.is_dir():
        raise PicoLMError(f"{directory} is no directory: files are named one by one, as in train=... dev=... test=...")
    found = sorted(path for ending in ("iob2", "iob2.gz") for path in directory.glob(f"*-{kind}.{ending}"))
    if len(found) > 1:
        raise PicoLMError(f"{directory} has several files of the kind *-{kind}.iob2: name one, as in {kind}={found[0]}")
    return found[0] if found else None


def _by_name(paths: Sequence[Path]) -> dict[str, Path]:
    """Test files by what rows call them: `tl_trg` for `tl_trg-ud-test.iob2`."""
    found: dict[str, Path] = {}
    for path in paths:
        name = re.sub(r"(-ud)?-test$", "", path.name.partition(".")[0])
        if name in found:
            raise PicoLMError(f"{found[name]} and {path} are both called '{name}': their rows could not be told apart")
        if name in RESERVED:
            raise PicoLMError(f"{path} cannot be called '{name}', which rows of something else are: rename the file")
        found[name] = path
    return found


@dataclass(frozen=True)
class Part:
    """Sentences of one file.

    Attributes:
        sentences: with tags as read.
        examples: as a model reads them; in their labels what IOB2 does not know is repaired.
        n_joined: of how many the text had to be made of the words.
    """

    sentences: Sequence[Sentence]
    examples: Sequence[Example]
    n_joined: int

    @cached_property
    def tags(self) -> list[tuple[str, ...]]:
        """Right tags of each sentence, as read."""
        return [sentence.tags for sentence in self.sentences]

    def facts(self) -> dict[str, int]:
        """What was met in it, as JSON values."""
        return {
            "sentences": len(self.sentences),
            "words": sum(len(tags) for tags in self.tags),
            "illegal_starts": sum(map(illegal_starts, self.tags)),
            "joined": self.n_joined,
        }


@dataclass(frozen=True)
class Corpus:
    """All sentences; `dev` is empty where there is none."""

    train: Part
    dev: Part
    tests: Mapping[str, Part]

    @cached_property
    def asked(self) -> list[Example]:
        """The examples of all tests in one list, so that a frozen model reads it once for all seeds."""
        return [example for part in self.tests.values() for example in part.examples]

    def by_test(self, answers: Sequence[IntArray]) -> dict[str, list[tuple[str, ...]]]:
        """The tags of each test's sentences from the labels of `asked`."""
        tags, begin = {}, 0
        for name, part in self.tests.items():
            tags[name] = [tags_of(labels) for labels in answers[begin : begin + len(part.sentences)]]
            begin += len(part.sentences)
        return tags


def tags_of(labels: IntArray) -> tuple[str, ...]:
    """Labels as tags."""
    return tuple(TAGS[label] for label in labels.tolist())


def read_corpus(files: Files, material: Material, *, dropped: Collection[str], sentences: int, seed: int) -> Corpus:
    """Read and encode all files.

    Args:
        files: where they are.
        material: the target's tokenizer, window and kind.
        dropped: types that count as no entity.
        sentences: how many training sentences to draw, keyed; 0: all.
        seed: of the draw.

    Raises:
        PicoLMError: a file is not what it must be, or has a type of entity that the training file does not have.
    """
    read = {name: read_sentences(path, dropped) for name, path in files.by_name().items()}
    train = read.pop("train")
    known = {tag[2:] for sentence in train for tag in sentence.tags}
    for name, others in read.items():
        _refuse_unknown(others, known, files.train, dropped)
        if all(tag == OUTSIDE for sentence in others for tag in sentence.tags):
            raise PicoLMError(f"{files.by_name()[name]} has no entity: there is nothing in it to be found")
    dev = read.pop("dev", [])
    return Corpus(
        train=_part(_drawn(train, sentences, seed) if sentences else train, material),
        dev=_part(dev, material),
        tests={name: _part(others, material) for name, others in read.items()},
    )


def _refuse_unknown(
    sentences: Sequence[Sentence], known: Collection[str], train: Path, dropped: Collection[str]
) -> None:
    for sentence in sentences:
        for tag in sentence.tags:
            if tag != OUTSIDE and tag[2:] not in known:
                raise PicoLMError(
                    f"{sentence.place}: the sentence has the tag '{tag}', but {train} has no entity of that type "
                    f"to learn from; the type is left out of all files with {dropping(dropped, tag[2:])}"
                )


def _drawn(sentences: Sequence[Sentence], count: int, seed: int) -> list[Sentence]:
    order = generator(seed, "sample of sentences").permutation(len(sentences))[:count]
    return [sentences[place] for place in sorted(order.tolist())]


def _part(sentences: Sequence[Sentence], material: Material) -> Part:
    placed = [place_words(sentence.words, sentence.text) for sentence in sentences]
    labels = [np.array([_LABELS[tag] for tag in repaired(sentence.tags)], dtype=np.int64) for sentence in sentences]
    examples = examples_of([own for own, _ in placed], labels, material)
    return Part(sentences, examples, sum(not is_own for _, is_own in placed))
