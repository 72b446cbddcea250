"""Perplexity and bits per byte, domain by domain, averaged in the three ways that people mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from picolm.config.schema import Data
from picolm.config.section import Count, Positive, Section, Seed
from picolm.errors import PicoLMError
from picolm.evaluation.scoring import FirstToken, score_passages
from picolm.evaluation.statistics import ratio_error
from picolm.evaluation.task import Figure, Found, Material, Subject, Task
from picolm.evaluation.texts import (
    Text,
    document_texts,
    held_out_texts,
    limited,
    paloma_texts,
    source_documents,
    tinsy_texts,
)
from picolm.evaluation.trees import Passage
from picolm.evaluation.windows import reach, windows
from picolm.runs.digest import sha256_of_json
from picolm.text.sources import expand

PICO = "pico_mean_sequence_perplexity"
_LARGEST = 700.0
"""Beyond e^700 a double overflows; such a perplexity says no more than "untrained"."""


class PerplexitySettings(Section):
    """What is read, and how."""

    form: Literal["documents", "paloma", "tinsy"] = Field(
        "documents",
        description="each document by its domain; by `source` and `subdomain`; or chunks of joined documents",
    )
    first_token: FirstToken = Field("bos", description="`bos`: every token is scored; `none`: all but the first")
    window: Count = Field(0, description="positions read at once; 0: the model's own")
    stride: Count = Field(0, description="tokens by which windows of a long text move on; 0: half a window")
    tokens_per_domain: Count = Field(0, description="documents are drawn while they fit; 0: all")
    chunks_per_domain: Positive = Field(100, description="chunks to draw of each domain (form: tinsy)")
    seed: Seed = Field(42, description="of the chunks")
    pico_figure: bool = Field(True, description="whether Pico's own figure is computed too, by a second reading")
    text_field: str = Field("text", description="the field or column with the text")
    domain_field: str = Field("domain", description="the field or column with the domain")
    txt_documents: Literal["pieces", "file", "paragraphs", "lines"] = Field(
        "pieces", description="what a document is in a .txt file"
    )


@dataclass(frozen=True, slots=True)
class Totals:
    """What was found about each of some texts.

    Attributes:
        nats: minus the sum of log-probabilities, float64 [N].
        tokens: how many were scored, float64 [N].
        bytes: of the texts, float64 [N]; NaN where it is not known.
    """

    nats: np.ndarray[Any, np.dtype[np.float64]]
    tokens: np.ndarray[Any, np.dtype[np.float64]]
    bytes: np.ndarray[Any, np.dtype[np.float64]]

    def of(self, places: Sequence[int]) -> Totals:
        """Some of them."""
        return Totals(self.nats[places], self.tokens[places], self.bytes[places])

    @property
    def loss(self) -> float:
        """Nats per token over all of them."""
        return math.fsum(self.nats) / max(math.fsum(self.tokens), 1.0)


class Perplexity(Task):
    """How well a causal model predicts texts."""

    Settings: ClassVar[type[Section]] = PerplexitySettings
    kind: ClassVar[str] = "perplexity"

    def __init__(self, settings: Section, path: str | None, label: str) -> None:
        super().__init__(settings, path, label)
        assert isinstance(settings, PerplexitySettings)
        self.settings = settings
        self._texts: list[Text] = []
        self._window = self._stride = 0
        self._prefix: list[int] = []

    def sources(self) -> dict[str, str]:
        """The source as it was written."""
        return {"data": "held-out documents of the run" if self.path is None else self.path}

    def prepare(self, material: Material) -> dict[str, Any]:
        """Read the texts and tokenize them."""
        if not material.is_causal:
            raise PicoLMError(f"{material.name} is a masked model, which has no perplexity: ask it for pairs instead")
        self._window, self._stride = reach(self.settings.window, self.settings.stride, material.window)
        self._prefix = [material.bos] if self.settings.first_token == "bos" else []
        texts, origin = self._read(material)
        self._texts = limited(texts, self.settings.tokens_per_domain) if self.settings.tokens_per_domain else texts
        return {
            **self.settings.model_dump(mode="json"),
            "window": self._window,
            "stride": self._stride,
            "tokenizer": material.tokenizer.fingerprint,
            "bos": material.bos,
            "data_sha256": origin,
        }

    def measure(self, subject: Subject) -> Found:
        """Score every text, each alone."""
        parts = [list(windows(self._begun(text), self._window, self._stride)) for text in self._texts]
        passages = [passage for part in parts for passage in part]
        pico = self._pico_passages()
        subject.meter.expect(len(passages) + len(pico))
        scored = iter(score_passages(subject.engine, passages, subject.meter.advance))
        sums = [math.fsum(float(next(scored).sum()) for _ in part) for part in parts]
        found = Totals(
            nats=-np.array(sums),
            tokens=np.array([sum(passage.n_scored for passage in part) for part in parts], dtype=np.float64),
            bytes=np.array([math.nan if text.n_bytes is None else text.n_bytes for text in self._texts]),
        )
        if not np.isfinite(found.nats).all():
            raise PicoLMError("the model gives a text a log-probability that is not finite: its weights are broken")
        figures = self._figures(found)
        if pico:
            losses = score_passages(subject.engine, pico, subject.meter.advance)
            figures.append(pico_figure([-float(log_p.mean()) for log_p in losses]))
        return Found(figures)

    def _read(self, material: Material) -> tuple[list[Text], str]:
        settings = self.settings
        if self.path is None:
            return self._held_out(material)
        data = Data(
            sources=(self.path,),
            text_field=settings.text_field,
            domain_field=settings.domain_field,
            txt_documents=settings.txt_documents,
        )
        documents = source_documents([self.path], data)
        origin = sha256_of_json(sorted(source.sha256() for source in expand([self.path])))
        if settings.form == "paloma":
            return paloma_texts(documents, material.tokenizer), origin
        if settings.form == "tinsy":
            chunks, seed = settings.chunks_per_domain, settings.seed
            return tinsy_texts(documents, material.tokenizer, window=self._window, chunks=chunks, seed=seed), origin
        return document_texts(documents, material.tokenizer), origin

    def _held_out(self, material: Material) -> tuple[list[Text], str]:
        if self.settings.form != "documents":
            raise PicoLMError(
                f"form={self.settings.form} needs a source: write perplexity:PATH form={self.settings.form}"
            )
        split = material.held_out()
        if split is None:
            raise PicoLMError(
                f"{material.name} has no held-out documents: name a source, as in perplexity:corpus.jsonl"
            )
        texts = held_out_texts(split)
        facts = [[text.domain, text.n_bytes, text.tokens.tolist()] for text in texts]
        return texts, sha256_of_json(facts)

    def _begun(self, text: Text) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.concatenate([np.array(self._prefix, dtype=np.int64), text.tokens])

    def _pico_passages(self) -> list[Passage]:
        """Each text cut off at the window, its first token not scored: as pico-train asks Hugging Face's metric."""
        if not self.settings.pico_figure:
            return []
        return [Passage(text.tokens[: self._window], 1) for text in self._texts if len(text.tokens) > 1]

    def _figures(self, found: Totals) -> list[Figure]:
        domains = _places([text.domain for text in self._texts])
        sources = _places([text.source for text in self._texts if text.source is not None])
        figures = subset_figures("all", found)
        by_domain = {name: found.of(places) for name, places in domains.items()}
        figures += macro("all", by_domain)
        if sources:
            owner = {text.domain: text.source for text in self._texts}
            for source, places in sources.items():
                figures += subset_figures(f"source/{source}", found.of(places))
                members = {name: totals for name, totals in by_domain.items() if owner[name] == source}
                figures += macro(f"source/{source}", members)
        for name, totals in by_domain.items():
            figures += subset_figures(f"domain/{name}", totals)
        return figures


def subset_figures(subset: str, found: Totals) -> list[Figure]:
    """Loss, perplexity and bits per byte over the tokens of some texts; errors are over texts, which are the items.

    With texts d, the loss is a ratio sum x_d / sum n_d, and se = sqrt(N / (N - 1) sum (x_d - loss n_d)^2) / sum n_d.
    """
    n_tokens, n_texts = math.fsum(found.tokens), len(found.nats)
    loss = found.loss
    se = ratio_error(found.nats, found.tokens)
    perplexity = math.exp(min(loss, _LARGEST))
    figures = [
        Figure(subset, "loss", loss, se, int(n_tokens)),
        Figure(subset, "perplexity", perplexity, None if se is None else perplexity * se, int(n_tokens)),
        Figure(subset, "texts", n_texts, None, n_texts),
    ]
    n_bytes = math.fsum(found.bytes)
    if math.isfinite(n_bytes) and n_bytes > 0:
        bits = math.fsum(found.nats) / (math.log(2) * n_bytes)
        error = ratio_error(found.nats / math.log(2), found.bytes)
        figures.append(Figure(subset, "bits_per_byte", bits, error, int(n_bytes)))
    return figures


def macro(subset: str, domains: Mapping[str, Totals]) -> list[Figure]:
    """Unweighted means over domains, as Paloma reports perplexity."""
    losses = [totals.loss for totals in domains.values()]
    perplexities = [math.exp(min(loss, _LARGEST)) for loss in losses]
    return [
        Figure(subset, "macro_loss", float(np.mean(losses)), None, len(losses)),
        Figure(subset, "macro_perplexity", float(np.mean(perplexities)), None, len(losses)),
    ]


def pico_figure(losses: Sequence[float]) -> Figure:
    """What pico-train logs: the mean over texts of exp(mean loss), ruled by the hardest texts; for comparison only."""
    values = np.exp(np.minimum(losses, _LARGEST))
    se = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return Figure("all", PICO, float(values.mean()), se, len(values))


def _places(names: Sequence[str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    return dict(sorted(places.items()))
