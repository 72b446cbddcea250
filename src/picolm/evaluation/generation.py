"""Samples of every checkpoint, from the same prompts and seeds: texts to read side by side, and figures about them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from picolm.config.section import Count, Positive, Section, Seed, Strings
from picolm.errors import PicoLMError
from picolm.evaluation.diversity import distinct, repetition
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.records import read_lines, read_records
from picolm.evaluation.scoring import score_passages
from picolm.evaluation.statistics import share_of
from picolm.evaluation.task import Figure, Found, Material, Subject, Task
from picolm.evaluation.windows import windows
from picolm.model.generation import Sampling, generate_batch
from picolm.runs.digest import sha256_of_json
from picolm.text.lines import decode

TEXTS_FILE = "texts.jsonl"
_BATCH = 16
_REPEATED = 4


class GenerationSettings(Section):
    """What is continued, and how tokens are drawn."""

    prompts: Strings = Field((), description="beginnings; none, and no file: new documents")
    count: Positive = Field(1, description="texts for each prompt")
    max_tokens: Positive = Field(100, description="tokens to add to each at most")
    temperature: Annotated[float, Field(ge=0.0)] = Field(0.8, description="0: always the likeliest token")
    top_k: Count = Field(0, description="draw among the k likeliest tokens only; 0: all")
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.95, description="draw among the likeliest tokens that together have this probability"
    )
    seed: Seed = Field(0, description="the same seed gives the same texts")
    prompt_field: str = Field("prompt", description="the field with the prompt, in a file of JSON lines")


@dataclass(frozen=True, slots=True)
class Sample:
    """One text.

    Attributes:
        prompt: its beginning.
        key: its number among the texts of that prompt.
        text: what was added.
        n_tokens: how many tokens that is, without the one that ended it.
        has_ended: whether the model ended the text itself.
        log_p: of everything that was drawn, that end too, under the model as it is (temperature 1, nothing cut off).
    """

    prompt: str
    key: int
    text: str
    n_tokens: int
    has_ended: bool
    log_p: FloatArray

    def line(self) -> str:
        """The sample as JSON."""
        facts = {"prompt": self.prompt, "key": self.key, "text": self.text, "tokens": self.n_tokens}
        ended = "document" if self.has_ended else "max_tokens"
        return json.dumps({**facts, "ended": ended, "log_p": round(float(self.log_p.sum()), 6)}, ensure_ascii=False)


class Generation(Task):
    """Texts that a causal model writes, and what can be counted about them."""

    Settings: ClassVar[type[Section]] = GenerationSettings
    kind: ClassVar[str] = "generation"

    def __init__(self, settings: Section, path: str | None, label: str) -> None:
        super().__init__(settings, path, label)
        assert isinstance(settings, GenerationSettings)
        if path is not None and settings.prompts:
            raise PicoLMError("the task generation takes prompts=[...] or a file, not both")
        self.settings = settings
        self._prompts: list[str] = []
        self._material: Material | None = None

    def prepare(self, material: Material) -> dict[str, Any]:
        """Read the prompts."""
        if not material.is_causal:
            raise PicoLMError(f"{material.name} is a masked model, which generates no text: it predicts no next token")
        self._material = material
        self._prompts = self._read()
        for prompt, times in Counter(self._prompts).items():
            if times > 1:
                raise PicoLMError(f"the prompt '{prompt}' stands twice and would be continued alike: ask for count=2")
        return {
            **self.settings.model_dump(mode="json", exclude={"prompts", "prompt_field"}),
            "prompts_sha256": sha256_of_json(self._prompts),
            "n_prompts": len(self._prompts),
            "tokenizer": material.tokenizer.fingerprint,
        }

    def measure(self, subject: Subject) -> Found:
        """Let a model write, and score what it has written."""
        subject.meter.expect(2 * len(self._prompts) * self.settings.count)
        samples = self._samples(subject)
        lines = "".join(f"{sample.line()}\n" for sample in samples)
        return Found(sample_figures(samples), {TEXTS_FILE: lines.encode()})

    def _read(self) -> list[str]:
        if self.path is None:
            return list(self.settings.prompts or ("",))
        path = Path(self.path).expanduser()
        suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
        if suffix.startswith(".jsonl"):
            return [
                record.text(self.settings.prompt_field, may_be_empty=True) for record in read_records(path, "prompts")
            ]
        if not suffix.startswith(".txt"):
            raise PicoLMError(f"{path} must be a .txt file with a prompt in each line, or a .jsonl file with records")
        prompts = [decode(str(path), line, number) for number, line in read_lines(path, "prompts")]
        if not prompts:
            raise PicoLMError(f"{path} holds no prompt: write one in each line")
        return prompts

    def _samples(self, subject: Subject) -> list[Sample]:
        assert self._material is not None
        tokenizer, settings, engine = self._material.tokenizer, self.settings, subject.engine
        asked = [(prompt, key) for prompt in self._prompts for key in range(settings.count)]
        begun = [[tokenizer.separator_id, *tokenizer.encode(prompt).tolist()] for prompt, _ in asked]
        added: list[list[int]] = []
        for first in range(0, len(asked), _BATCH):
            with engine.reading():
                added += generate_batch(
                    engine.model,
                    begun[first : first + _BATCH],
                    max_tokens=settings.max_tokens,
                    sampling=Sampling(settings.temperature, settings.top_k, settings.top_p),
                    seed=settings.seed,
                    stop=tokenizer.separator_id,
                    keys=[key for _, key in asked[first : first + _BATCH]],
                    vocab_size=tokenizer.vocab_size,
                )
            subject.meter.advance(len(asked[first : first + _BATCH]))
        ends = [[] if len(ids) == settings.max_tokens else [tokenizer.separator_id] for ids in added]
        whole = [[*before, *ids, *end] for before, ids, end in zip(begun, added, ends, strict=True)]
        scored = self._scored(subject, whole, [len(before) for before in begun])
        return [
            Sample(prompt, key, tokenizer.decode(ids), len(ids), bool(end), log_p)
            for (prompt, key), ids, end, log_p in zip(asked, added, ends, scored, strict=True)
        ]

    def _scored(self, subject: Subject, texts: Sequence[Sequence[int]], firsts: Sequence[int]) -> list[FloatArray]:
        """Log-probabilities of the tokens of texts from a place on, each given what the model saw when it drew them."""
        window = subject.engine.window
        # A model looks at the last `window` tokens; in a longer text each token moves that window on.
        parts = [list(windows(np.array(text, dtype=np.int64), window, 1)) for text in texts]
        found = iter(score_passages(subject.engine, [passage for part in parts for passage in part]))
        subject.meter.advance(len(texts))
        # The token at place t is the scored one number t - 1.
        return [
            np.concatenate([next(found) for _ in part])[first - 1 :] for part, first in zip(parts, firsts, strict=True)
        ]


def sample_figures(samples: Sequence[Sample]) -> list[Figure]:
    """Length in tokens, share that ended by itself, nats per drawn token, variety and repetition of some texts."""
    n = len(samples)
    lengths = share_of(np.array([float(sample.n_tokens) for sample in samples]))
    ended = share_of(np.array([float(sample.has_ended) for sample in samples]))
    drawn = np.concatenate([sample.log_p for sample in samples])
    words = [sample.text.split() for sample in samples]
    figures = [
        Figure("all", "tokens", lengths.value, lengths.se, n),
        Figure("all", "ended", 100 * ended.value, None if ended.se is None else 100 * ended.se, n),
        Figure("all", "mean_log_p", float(drawn.mean()), None, len(drawn)),
    ]
    n_words = sum(map(len, words))
    for size in (1, 2, 3):
        value = distinct(words, size)
        figures += [] if value is None else [Figure("all", f"distinct_{size}", value, None, n_words)]
    repeated = [value for own in words if (value := repetition(own, _REPEATED)) is not None]
    if repeated:
        share = share_of(np.array(repeated))
        figures.append(Figure("all", f"repetition_{_REPEATED}", share.value, share.se, share.n))
    return figures
