"""The surprisal of each word of a text in its context, as a table: what reading and acquisition are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor

from picolm.config.section import Section
from picolm.errors import PicoLMError
from picolm.evaluation.boundaries import beginnings, corrections, refuse_unmarked
from picolm.evaluation.controls import Unigram
from picolm.evaluation.frequencies import Frequencies
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.located import LocatedText, across_words, form_of, word_numbers
from picolm.evaluation.positions import Positions, Reading
from picolm.evaluation.probe import Probe, ProbeSettings
from picolm.evaluation.scoring import Engine
from picolm.evaluation.statistics import mean_in_groups
from picolm.evaluation.task import Figure, Found, Material, Subject, Task
from picolm.runs.digest import sha256_of_file
from picolm.runs.evaluations import table_bytes

WORDS = "words.parquet"
"""The ending of the table of a checkpoint."""
_SCHEMA = pa.schema(
    [
        ("text", pa.int32()),
        ("id", pa.string()),
        ("domain", pa.string()),
        ("context_length", pa.int32()),
        ("word", pa.string()),
        ("form", pa.string()),
        ("start", pa.int32()),
        ("length", pa.int32()),
        ("tokens", pa.int32()),
        ("across", pa.bool_()),
        ("unigram", pa.float64()),
    ]
)


class WordsSettings(ProbeSettings):
    """Which texts are read and how, and what a word is."""

    bow_correction: bool = Field(
        False, description="whether probabilities of words add up to one, where tokens mark the beginnings of words"
    )
    words_field: str | None = Field(
        None, description="the field that lists a text's words; null: they are what white space parts"
    )
    frequencies: str | None = Field(
        None, description="a list of words and counts; null: they are counted in the run's training texts"
    )
    frequencies_word: str = Field("word", description="the name of the words in that list")
    frequencies_count: str = Field("count", description="the name of the counts in that list")


class Words(Task):
    """Sums of surprisal over the tokens of each word."""

    Settings: ClassVar[type[Section]] = WordsSettings
    kind: ClassVar[str] = "words"

    def __init__(self, settings: Section, path: str | None, label: str) -> None:
        super().__init__(settings, path, label)
        assert isinstance(settings, WordsSettings)
        self.settings = settings
        self._probe: Probe | None = None
        self._table = pa.table({})
        self._begins: npt.NDArray[np.bool_] | None = None
        self._separator = 0

    def sources(self) -> dict[str, str]:
        """The source as it was written, and the list of frequencies."""
        listed = self.settings.frequencies
        return {
            "data": "held-out documents of the run" if self.path is None else self.path,
            **({} if listed is None else {"frequencies": str(Path(listed).absolute())}),
        }

    def prepare(self, material: Material) -> dict[str, Any]:
        """Read the texts, find their words, and count words and tokens of the training texts where those are there."""
        self._probe = Probe(self.settings, material, self.path, self.settings.words_field)
        self._separator = material.tokenizer.separator_id
        if self.settings.bow_correction:
            self._begins = beginnings(material.tokenizer)
            for text in self._probe.texts:
                refuse_unmarked(text, self._begins)
        split = material.training()
        unigram = None if split is None else Unigram.of_training(split, material.tokenizer.vocab_size)
        frequencies, listed = self._frequencies(material)
        self._table = _table_of(self._probe, unigram, frequencies)
        if not self._table.num_rows:
            raise PicoLMError("the texts have no word")
        return {
            **self._probe.identity,
            "frequencies": listed,
            "frequencies_of": None if frequencies is None else [frequencies.origin, frequencies.total],
            "unigram": None if unigram is None else int(unigram.counts.sum()),
        }

    def measure(self, subject: Subject) -> Found:
        """Read every text once."""
        assert self._probe is not None
        reading, columns = _reading(subject.engine, self._begins)
        # The token that ends a text is asked for to learn whether its last word is over.
        ending = [] if self._begins is None else [self._separator]
        found = self._probe.read(subject, reading, columns, ending)
        per_text = [self._surprisals(text, own) for text, own in zip(self._probe.texts, found, strict=True)]
        surprisal = np.concatenate(per_text)
        if np.isinf(surprisal).any() or any(np.isnan(own).any() for own in found):
            raise PicoLMError("the model gives a word a log-probability that is not finite: its weights are broken")
        values = pa.array(surprisal, pa.float64(), from_pandas=True)
        table = self._table.append_column("surprisal", values)
        return Found(self._figures(surprisal), {WORDS: table_bytes(table)})

    def _frequencies(self, material: Material) -> tuple[Frequencies | None, str | None]:
        s = self.settings
        if s.frequencies is not None:
            path = Path(s.frequencies).expanduser()
            return Frequencies.of_file(path, s.frequencies_word, s.frequencies_count), sha256_of_file(path)
        split = material.training()
        if split is None:
            return None, None
        return Frequencies.of_training(split, material.tokenizer, s.counted_tokens), None

    def _surprisals(self, text: LocatedText, found: FloatArray) -> FloatArray:
        """Nats of each word of a text; NaN where no token, or one that is not scored, begins in it."""
        assert self._probe is not None
        numbers, n_words, skipped = word_numbers(text.spans, text.words), len(text.words), self._probe.skipped
        scored = numbers[skipped:]
        inside = scored < n_words
        surprisal = -found[: len(scored), 0]
        sums = np.bincount(scored[inside], weights=surprisal[inside], minlength=n_words)
        sums[np.setdiff1d(np.arange(n_words), scored)] = np.nan
        if skipped and len(numbers) and numbers[0] < n_words:
            sums[numbers[0]] = np.nan
        if self._begins is None:
            return np.asarray(sums)
        # Before a first token that is not scored the mass is not known; the first word needs none.
        log_mass = np.concatenate([np.zeros(skipped), found[:, 1]])
        return np.asarray(sums + corrections(numbers, n_words, log_mass))

    def _figures(self, surprisal: FloatArray) -> list[Figure]:
        domains = np.array(self._table["domain"].to_pylist(), dtype=object)
        texts = self._table["text"].to_numpy()
        known = ~np.isnan(surprisal)
        figures: list[Figure] = []
        for subset in ("all", *(f"domain/{name}" for name in sorted(set(domains)))):
            own = known if subset == "all" else known & (domains == subset.partition("/")[2])
            if own.any():
                value, se = mean_in_groups(surprisal[own], texts[own])
                n_texts = len(np.unique(texts[own]))
                figures.append(Figure(subset, "surprisal", value, se, int(own.sum())))
                figures.append(Figure(subset, "texts", n_texts, None, n_texts))
        return figures


def _reading(engine: Engine, begins: npt.NDArray[np.bool_] | None) -> tuple[Reading, int]:
    """For each token its log-probability, and with a correction the log of the mass of B there."""
    vocab_size = len(engine.model.output_matrix)
    marked = None
    if begins is not None:
        # A model may have more rows than the tokenizer has tokens; nothing begins with those.
        places = np.flatnonzero(begins)
        marked = torch.full((vocab_size,), -torch.inf, device=engine.device)
        marked[torch.from_numpy(places).to(engine.device)] = 0.0

    def reading(at: Positions) -> Tensor:
        log_z = at.logits.logsumexp(-1)
        log_p = at.logits.gather(1, at.targets[:, None])[:, 0] - log_z
        masses = [] if marked is None else [(at.logits + marked).logsumexp(-1) - log_z]
        return torch.stack([log_p, *masses], -1)

    return reading, 1 if marked is None else 2


def _table_of(probe: Probe, unigram: Unigram | None, frequencies: Frequencies | None) -> pa.Table:
    """What is known of the words without a model."""
    rows = [row for number, text in enumerate(probe.texts) for row in _rows(number, text, unigram)]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    forms = table["form"].to_pylist()
    logs = [None if frequencies is None or not form else frequencies.log_frequency(form) for form in forms]
    return table.append_column("log_frequency", pa.array(logs, pa.float64()))


def _rows(number: int, text: LocatedText, unigram: Unigram | None) -> Iterator[dict[str, Any]]:
    numbers, n_words = word_numbers(text.spans, text.words), len(text.words)
    reaching = numbers[across_words(text.spans, text.words)]
    starts, stops = (np.searchsorted(numbers, np.arange(n_words), side=side) for side in ("left", "right"))
    surprisals = _unigram_sums(text, starts, stops, unigram)
    for place, (start, stop) in enumerate(text.words.tolist()):
        word = text.text[start:stop]
        yield {
            "text": number,
            "id": text.id,
            "domain": text.domain,
            "context_length": place,
            "word": word,
            "form": form_of(word),
            "start": start,
            "length": len(word),
            "tokens": int(stops[place] - starts[place]),
            "across": bool((reaching == place).any()),
            "unigram": surprisals[place],
        }


def _unigram_sums(
    text: LocatedText, starts: npt.NDArray[Any], stops: npt.NDArray[Any], unigram: Unigram | None
) -> Sequence[float | None]:
    if unigram is None:
        return [None] * len(starts)
    parts = [text.tokens[start:stop] for start, stop in zip(starts, stops, strict=True)]
    sums: list[float | None] = (-unigram.score(parts)).tolist()
    return sums
