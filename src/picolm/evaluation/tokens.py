"""Per-token trajectories: the surprisal of every token of a probe text, checkpoint by checkpoint.

Beside the rows of each checkpoint stands a small file with a number for each token, and once for all checkpoints a
table of what the tokens are. `picolm.evaluation.trajectories` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from picolm.config.section import Section
from picolm.errors import PicoLMError
from picolm.evaluation.correlation import pearson
from picolm.evaluation.divergence import Divergences
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.located import LocatedText, form_of, word_numbers
from picolm.evaluation.ngrams import NGrams
from picolm.evaluation.positions import Positions, Reading
from picolm.evaluation.probe import Probe, ProbeSettings
from picolm.evaluation.statistics import mean_in_groups
from picolm.evaluation.task import Figure, Found, Material, Subject, Task
from picolm.runs.evaluations import table_bytes

TRAJECTORY, TOKENS = "trajectory.parquet", "tokens.parquet"
"""Endings of what is kept of each checkpoint, and of what all of them share."""
STEPS_PER_NAT = 2048
"""Surprisal is kept in units of 1/2048 nat in 16 bits: to 0.00025 nat wherever it is below 32 nats. Half-precision
floating point of the same size would be 16 times coarser at 10 nats; 32 nats are a probability of 1e-14."""
_MOST = 2**16 - 1


class Tokens(Task):
    """Surprisal of each token, whether it was the likeliest, and how far the model is from n-grams."""

    Settings: ClassVar[type[Section]] = ProbeSettings
    kind: ClassVar[str] = "tokens"

    def __init__(self, settings: Section, path: str | None, label: str) -> None:
        super().__init__(settings, path, label)
        assert isinstance(settings, ProbeSettings)
        self.settings = settings
        self._probe: Probe | None = None
        self._references: NGrams | None = None
        self._vocab_size = 0
        self._table = pa.table({})

    def sources(self) -> dict[str, str]:
        """The source as it was written."""
        return {"data": "held-out documents of the run" if self.path is None else self.path}

    def prepare(self, material: Material) -> dict[str, Any]:
        """Read the texts, and count n-grams of the training tokens where those are there."""
        self._probe = Probe(self.settings, material, self.path)
        self._vocab_size = material.tokenizer.vocab_size
        split = material.training()
        if split is not None:
            self._references = NGrams.of_training(split, self._vocab_size, self.settings.counted_tokens)
        self._table = _table_of(self._probe, material, self._references)
        counted = None if self._references is None else int(self._references.counts.sum())
        return {**self._probe.identity, "counted": counted}

    def shared_files(self) -> Mapping[str, bytes]:
        """What the tokens are."""
        return {TOKENS: table_bytes(self._table)}

    def measure(self, subject: Subject) -> Found:
        """Read every text once."""
        assert self._probe is not None
        matrix = subject.engine.model.output_matrix[: self._vocab_size]
        divergences = Divergences(matrix, self._references, subject.engine.device)
        columns = 2 + len(divergences.names)
        found = np.concatenate(self._probe.read(subject, _reading(divergences), columns))
        if not np.isfinite(found).all():
            raise PicoLMError("the model gives a token a log-probability that is not finite: its weights are broken")
        kept = {"surprisal": packed(found[:, 0]), "right": found[:, 1] > 0}
        return Found(self._figures(found, divergences.names), {TRAJECTORY: table_bytes(pa.table(kept))})

    def _figures(self, found: FloatArray, references: Sequence[str]) -> list[Figure]:
        documents = self._table["document"].to_numpy()
        domains = np.array(self._table["domain"].to_pylist(), dtype=object)
        names = ["surprisal", "right", *(f"kl_{name}" for name in references)]
        in_units = found * np.array([1.0, 100.0, *(1.0 for _ in references)])
        figures: list[Figure] = []
        for subset in ("all", *(f"domain/{name}" for name in sorted(set(domains)))):
            own = np.ones(len(found), dtype=bool) if subset == "all" else domains == subset.partition("/")[2]
            for name, column in zip(names, in_units[own].T, strict=True):
                value, se = mean_in_groups(column, documents[own])
                figures.append(Figure(subset, name, value, se, len(column)))
            figures += self._correlations(subset, found[own, 0], own)
        return figures

    def _correlations(self, subset: str, surprisal: FloatArray, own: npt.NDArray[np.bool_]) -> Iterator[Figure]:
        if self._references is None:
            return
        for name in ("unigram", "bigram"):
            value = pearson(surprisal, self._table[name].to_numpy()[own].astype(np.float64))
            if value is not None:
                yield Figure(subset, f"correlation_{name}", value, None, len(surprisal))


def packed(surprisal: FloatArray) -> npt.NDArray[np.uint16]:
    """Surprisal in units of 1/2048 nat, rounded; 65,535 stands for 32 nats and all above."""
    return np.minimum(np.rint(surprisal * STEPS_PER_NAT), _MOST).astype(np.uint16)


def unpacked(kept: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Nats of what `packed` made."""
    return (kept / np.float32(STEPS_PER_NAT)).astype(np.float32)


def _reading(divergences: Divergences) -> Reading:
    """For each token: surprisal, whether none is likelier, and the divergence of each reference."""

    def reading(at: Positions) -> Tensor:
        log_z, chosen = at.logits.logsumexp(-1), at.logits.gather(1, at.targets[:, None])[:, 0]
        right = (chosen >= at.logits.amax(-1)).to(log_z.dtype)
        return torch.stack([log_z - chosen, right, *divergences.at(at.hidden, log_z, at.before)], -1)

    return reading


def _table_of(probe: Probe, material: Material, references: NGrams | None) -> pa.Table:
    parts = [_rows(number, text, probe.skipped, material) for number, text in enumerate(probe.texts)]
    table = pa.concat_tables(parts)
    if not table.num_rows:
        raise PicoLMError("the texts have no token that is scored: with first_token=none a text needs two")
    for name in ("id", "domain", "string", "word"):
        table = table.set_column(table.column_names.index(name), name, table[name].dictionary_encode())
    if references is not None:
        tokens, before = table["token"].to_numpy().astype(np.int64), table["before"].to_numpy().astype(np.int64)
        table = table.append_column("unigram", pa.array(references.unigram_surprisal(tokens), pa.float32()))
        table = table.append_column("bigram", pa.array(references.bigram_surprisal(before, tokens), pa.float32()))
    return table.drop_columns(["before"])


def _rows(number: int, text: LocatedText, skipped: int, material: Material) -> pa.Table:
    """The scored tokens of one text."""
    n_bytes = np.cumsum([0, *(len(character.encode()) for character in text.text)])
    words = word_numbers(text.spans, text.words)
    forms = [form_of(text.text[start:stop]) for start, stop in text.words.tolist()]
    strings = [
        text.text[start:stop] or material.tokenizer.decode([token], skip_special=False)
        for token, (start, stop) in zip(text.tokens.tolist(), text.spans.tolist(), strict=True)
    ]
    n = len(text.tokens)
    columns = {
        "document": pa.array(np.full(n, number), pa.int32()),
        "id": pa.array([text.id] * n, pa.string()),
        "domain": pa.array([text.domain] * n, pa.string()),
        "position": pa.array(np.arange(n), pa.int32()),
        "token": pa.array(text.tokens, pa.int32()),
        "before": pa.array([material.bos, *text.tokens[:-1]], pa.int32()),
        "string": pa.array(strings, pa.string()),
        "start": pa.array(text.spans[:, 0], pa.int32()),
        "stop": pa.array(text.spans[:, 1], pa.int32()),
        "start_byte": pa.array(n_bytes[text.spans[:, 0]], pa.int32()),
        "stop_byte": pa.array(n_bytes[text.spans[:, 1]], pa.int32()),
        "word_number": pa.array(words, pa.int32()),
        "word": pa.array([forms[word] if word < len(forms) else "" for word in words], pa.string()),
    }
    return pa.table(columns).slice(skipped)
