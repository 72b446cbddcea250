"""A tagger: texts -> parts of speech of their words; it is one safetensors file, which holds numbers and JSON only."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from picolm.errors import PicoLMError
from picolm.runs.digest import sha256_of_bytes
from picolm.runs.durable import write_bytes
from picolm.text.segmentation import Segmentation, sentences

FORMAT = 1
KIND = "picolm-tagger"

Codes = npt.NDArray[np.int64]
"""1 + the index of a tag, for each word."""
Arrays = Mapping[str, npt.NDArray[Any]]
"""What was learnt, by name."""


class Tagger(ABC):
    """Gives each word one of `names`, looking at its sentence.

    Attributes:
        method: what kind it is: `perceptron` or `hidden_markov`.
        names: the tags, as they are stored with the tokens.
        segmentation: cuts texts into words as the annotation does that it learnt from.
        record: how it came about, for people: what it was trained on, how well it does.
    """

    method: str
    names: tuple[str, ...]
    segmentation: Segmentation
    record: dict[str, Any]

    @abstractmethod
    def codes(self, sentences: Sequence[Sequence[str]]) -> list[Codes]:
        """The tags of sentences that are cut into words already: for each, 1 + index in `names`, int64 [words]."""

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What it learnt, as arrays."""

    @abstractmethod
    def vocabulary(self) -> dict[str, Any]:
        """What it learnt, as JSON."""

    def tag(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """Find and tag the words of texts.

        Returns:
            For each text, int32 [words, 3]: first character, the one after the last, 1 + index in `names`.
        """
        spans = [self.segmentation.spans(text) for text in texts]
        parts = [sentences(text, found) for text, found in zip(texts, spans, strict=True)]
        asked = [
            [text[start:stop] for start, stop in found[part]]
            for text, found, of_text in zip(texts, spans, parts, strict=True)
            for part in of_text
        ]
        codes = iter(self.codes(asked))
        tagged = []
        for found, of_text in zip(spans, parts, strict=True):
            own = [next(codes) for _ in of_text]
            table = np.empty((len(found), 3), dtype=np.int32)
            table[:, :2] = np.array(found, dtype=np.int32).reshape(-1, 2)
            table[:, 2] = np.concatenate(own) if own else []
            tagged.append(table)
        return tagged

    def to_bytes(self) -> bytes:
        """The content of its file."""
        described = {
            "format": FORMAT,
            "kind": KIND,
            "method": self.method,
            "names": self.names,
            "record": self.record,
            "words": sorted(self.segmentation.words),
            "vocabulary": self.vocabulary(),
        }
        text = np.frombuffer(json.dumps(described, ensure_ascii=False).encode(), dtype=np.uint8)
        return save({"description": text, **self.arrays()})

    def save(self, path: Path) -> None:
        """Write its file.

        Raises:
            PicoLMError: something is there already, or the place cannot be written to.
        """
        refuse_taken(path)
        write_bytes(path, self.to_bytes())


def refuse_taken(path: Path) -> None:
    """Raise PicoLMError where a tagger could not be saved because something is there."""
    if path.exists():
        raise PicoLMError(f"{path} exists and is never overwritten: choose another --out")


def load_tagger(path: str | Path) -> Tagger:
    """Read a tagger's file; nothing in it can run.

    Raises:
        PicoLMError: it is not there, not a tagger, damaged, or of a newer format.
    """
    file = Path(path).expanduser()
    try:
        with safe_open(str(file), framework="numpy") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise PicoLMError(f"cannot read the tagger {file}: {error}") from None
    try:
        described = json.loads(bytes(arrays.pop("description")))
        if described["kind"] != KIND:
            raise ValueError(f"its kind is {described['kind']}")
        if described["format"] > FORMAT:
            raise PicoLMError(
                f"{file} has format {described['format']}, this PicoLM reads up to {FORMAT}: upgrade picolm"
            )
        return _rebuilt(described, arrays)
    except PicoLMError:
        raise
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise PicoLMError(
            f"{file} is not a tagger, or a damaged one ({type(error).__name__}: {error}); "
            "`picolm text train-tagger` makes one"
        ) from None


def _rebuilt(described: Mapping[str, Any], arrays: Arrays) -> Tagger:
    from picolm.text.hidden_markov import HiddenMarkovTagger
    from picolm.text.perceptron import PerceptronTagger

    kinds = {kind.method: kind for kind in (PerceptronTagger, HiddenMarkovTagger)}
    kind = kinds[described["method"]]
    tagger = kind(tuple(described["names"]), Segmentation(described["words"]), arrays, described["vocabulary"])
    tagger.record = dict(described["record"])
    return tagger


def tagger_sha256(path: str | Path) -> str:
    """SHA-256 of a tagger's file."""
    try:
        return sha256_of_bytes(Path(path).expanduser().read_bytes())
    except OSError as error:
        raise PicoLMError(f"cannot read the tagger {path}: {error.strerror}") from None
