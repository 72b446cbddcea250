"""How frequent words are: counted in the training texts of a run, or as a list says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from picolm.data.split import Split
from picolm.errors import PicoLMError
from picolm.evaluation.located import form_of
from picolm.evaluation.word_values import read_word_values
from picolm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Frequencies:
    """Counts of forms (see `form_of`).

    Attributes:
        counts: above 0.
        origin: what was counted.
    """

    counts: Mapping[str, float]
    origin: str

    @classmethod
    def of_training(cls, split: Split, tokenizer: Tokenizer, most: int) -> Frequencies:
        """Count the words of the training texts of a run, made of their tokens.

        Args:
            split: the texts.
            tokenizer: that made their tokens.
            most: read every k-th document, so that about so many tokens are read; 0: all.
        """
        every = max(1, -(-split.n_tokens // most)) if most else 1
        counts: Counter[str] = Counter()
        for document in range(0, split.n_documents, every):
            start, stop = split.document_span(document)
            counts.update(tokenizer.decode(split.tokens(start, stop - 1)).split())
        forms: Counter[str] = Counter()
        for word, count in counts.items():
            forms[form_of(word)] += count
        forms.pop("", None)
        return cls(forms, "the run's training texts")

    @classmethod
    def of_file(cls, path: Path, word_field: str, count_field: str) -> Frequencies:
        """Read a list of words and counts; those of one form are added.

        Raises:
            PicoLMError: the file is not what it must be, or a count is negative.
        """
        counts: dict[str, float] = {}
        for form, count in read_word_values(path, word_field, count_field):
            if count < 0:
                raise PicoLMError(f"{path} has the count {count:g} for '{form}', which must not be negative")
            counts[form] = counts.get(form, 0.0) + count
        return cls(counts, "a list")

    @cached_property
    def total(self) -> float:
        """All counts together, N."""
        return float(sum(self.counts.values()))

    def log_frequency(self, form: str) -> float:
        """Log of (c + 1) / (N + T) with T different forms, in nats: also of a form that was not seen."""
        return float(np.log((self.counts.get(form, 0) + 1) / (self.total + len(self.counts))))
