"""Classification: what can be read off a model about whole texts or pairs of them, by a probe or by fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import BeforeValidator, Field

from picolm.config.section import Count, Section, Strings, one_is_a_list
from picolm.errors import PicoLMError, nearest
from picolm.evaluation.agreement import Counts, Measured, measured, measures
from picolm.evaluation.bag import BagReader
from picolm.evaluation.batching import IntArray
from picolm.evaluation.fitting import Curve
from picolm.evaluation.labelled_corpus import Corpus, Files, read_corpus
from picolm.evaluation.labelled_files import Fields, as_label
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.progress import Meter
from picolm.evaluation.readers import Reader
from picolm.evaluation.readout import Example
from picolm.evaluation.scoring import Engine
from picolm.evaluation.task import Figure, Found, Material, Subject, Task
from picolm.evaluation.tuning import Tuning, reader_of, tune
from picolm.model.heads import SoftmaxHead
from picolm.runs.digest import sha256_of_file

Control = Literal["majority", "unigram", "untrained"]
ALL_CONTROLS: tuple[Control, ...] = ("majority", "unigram", "untrained")
_CONTROLS = "controls.json"


class ClassificationSettings(Tuning):
    """What is read, and how a model is tuned to tell labels apart."""

    dev: str | None = Field(None, description="file of texts that decide about learning rate and epoch")
    dev_fraction: float = Field(0.1, ge=0.0, lt=1.0, description="share of training texts for that, without `dev`")
    test: Strings = Field((), description="files of texts that are asked; none: those of the dev set are")
    text_field: str = Field("text", description="the field or column with the text")
    pair_field: str | None = Field(None, description="that with a second text, behind a separator; none: there is none")
    label_field: str = Field("label", description="that with the label")
    positive: Annotated[str | None, BeforeValidator(as_label)] = Field(
        None, description="the label that `f1` is of; none: of two labels the second in sorted order"
    )
    score: Literal["accuracy", "f1", "macro_f1", "mcc"] = Field(
        "accuracy", description="what chooses learning rate and epoch on the dev set"
    )
    texts: Count = Field(0, description="draw so many training texts, for quick looks; 0: all")
    controls: Annotated[tuple[Control, ...], BeforeValidator(one_is_a_list)] = Field(
        ALL_CONTROLS, description="what knows less than the model, beside it"
    )


class Classification(Task):
    """Accuracy, F1 and Matthews' correlation of a head on features of whole texts."""

    Settings: ClassVar[type[Section]] = ClassificationSettings
    kind: ClassVar[str] = "classification"

    def __init__(self, settings: Section, path: str | None, label: str) -> None:
        super().__init__(settings, path, label)
        assert isinstance(settings, ClassificationSettings)
        if path is None:
            raise PicoLMError(
                "the task classification needs a file of training texts: write classification:PATH, "
                "for example classification:train.jsonl test=test.jsonl"
            )
        self.settings = settings
        dev = None if settings.dev is None else Path(settings.dev).expanduser()
        self._files = Files(Path(path).expanduser(), dev, _by_name(settings.test))
        self._material: Material | None = None
        self._corpus: Corpus | None = None
        self._positive: int | None = None
        self._controls: dict[str, list[IntArray]] = {}

    def sources(self) -> dict[str, str]:
        """The files of texts."""
        return {name: str(path.absolute()) for name, path in self._files.by_name().items()}

    def prepare(self, material: Material) -> dict[str, Any]:
        """Read and encode all texts."""
        s = self.settings
        fields = Fields(s.text_field, s.pair_field, s.label_field)
        corpus = read_corpus(self._files, fields, material, dev_fraction=s.dev_fraction, texts=s.texts)
        if not corpus.asked:
            raise PicoLMError("there is nothing to measure on: name a test file, as in test=test.jsonl, or a dev set")
        self._material, self._corpus, self._positive = material, corpus, self._positive_label(corpus.labels)
        return {
            **s.identity(is_causal=material.is_causal),
            # The files are known by what is in them, wherever they stand.
            "dev": s.dev is not None,
            "test": list(corpus.tests),
            "data_sha256": {name: sha256_of_file(path) for name, path in self._files.by_name().items()},
            "positive": None if self._positive is None else corpus.labels[self._positive],
            "tokenizer": material.tokenizer.fingerprint,
            "bos": material.bos,
            **({"untrained_seed": material.untrained_seed} if "untrained" in s.controls else {}),
        }

    def shared_files(self) -> Mapping[str, bytes]:
        """What the controls answered: it is the same beside every checkpoint."""
        answers = {name: [own.tolist() for own in answers] for name, answers in self._controls.items()}
        return {_CONTROLS: json.dumps(answers).encode()} if answers else {}

    def recall(self, shared: Mapping[str, bytes]) -> None:
        """Spare the controls where they were asked before."""
        answers = json.loads(shared.get(_CONTROLS, b"{}"))
        self._controls = {name: [np.array(own, dtype=np.int64) for own in answers[name]] for name in answers}

    def measure(self, subject: Subject) -> Found:
        """Tune a head, or the model with it, for each seed, and ask it all texts; the controls too, once."""
        engine = subject.engine
        answers = self._answers(reader_of(engine, self.settings), self.settings, subject.meter)
        for name in self.settings.controls:
            if name not in self._controls:
                self._controls[name] = self._asked_control(name, engine, subject.meter)
        files = {"predictions.parquet": self._predictions(answers), "tuning.json": _record(answers)}
        return Found(list(self._figures([one.labels for one in answers])), files)

    @property
    def corpus(self) -> Corpus:
        """The texts, after `prepare`."""
        assert self._corpus is not None
        return self._corpus

    def _positive_label(self, labels: Sequence[str]) -> int | None:
        named = self.settings.positive
        if named is not None and named not in labels:
            raise PicoLMError(f"positive={named} is no label of {self._files.train}{nearest(named, labels)}")
        if named is None and len(labels) > 2 and self.settings.score == "f1":
            raise PicoLMError(f"score=f1 is of one label: name it, as in positive={labels[0]}, or take score=macro_f1")
        return labels.index(named) if named is not None else 1 if len(labels) == 2 else None

    def _asked_control(self, name: Control, engine: Engine, meter: Meter) -> list[IntArray]:
        """Labels by each seed, of what knows less than the model."""
        assert self._material is not None
        train = self.corpus.train
        if name == "majority":
            return [np.full(len(self.corpus.asked), np.bincount(train.gold).argmax())]
        if name == "unigram":
            reader: Reader = BagReader(train.examples, engine.budget)
            # With the learning rates that suit it, where there is a dev set to choose by.
            rates = () if self.corpus.dev.examples else self.settings.learning_rates
            settings = self.settings.model_copy(update={"mode": "head", "learning_rates": rates})
        else:
            untrained = self._material.untrained().to(engine.device)
            reader, settings = reader_of(replace(engine, model=untrained), self.settings), self.settings
        return [one.labels for one in self._answers(reader, settings, meter)]

    def _answers(self, reader: Reader, settings: Tuning, meter: Meter) -> list[_Answers]:
        corpus = self.corpus
        n_labels, gold = len(corpus.labels), corpus.dev.gold

        def make_head(width: int, generator: torch.Generator) -> SoftmaxHead:
            return SoftmaxHead(width, n_labels, generator)

        def score(_: Sequence[Example], predicted: Sequence[IntArray]) -> float:
            counts = Counts.of(gold, np.concatenate(predicted), n_labels)
            return float(measures(counts, self._positive)[self.settings.score])

        texts = corpus.train.examples, corpus.dev.examples
        return [
            _Answers(
                tuned.seed,
                tuned.learning_rate,
                tuned.epoch,
                tuned.dev_scores,
                tuned.curve,
                labels=np.concatenate(tuned.predict(corpus.asked)),
                log_p=np.concatenate(tuned.log_p(corpus.asked)),
            )
            for tuned in tune(reader, make_head, *texts, score, settings, meter=meter)
        ]

    def _figures(self, answers: Sequence[IntArray]) -> Iterator[Figure]:
        parts = self.corpus.asked_parts
        gold = np.concatenate([part.gold for part in parts.values()])
        subsets, begin = {"all": slice(None)}, 0
        for name, part in parts.items():
            subsets[name] = slice(begin, begin + len(part.examples))
            begin += len(part.examples)
        for subset, places in subsets.items():
            found = {"": self._measured(gold[places], [own[places] for own in answers])}
            for name in self.settings.controls:
                own = [own[places] for own in self._controls[name]]
                found[f"_{name}"] = self._measured(gold[places], own)
            yield from _subset_figures(subset, found, len(gold[places]))
        for subset, part in {"train": self.corpus.train, "dev": self.corpus.dev, **parts}.items():
            yield Figure(subset, "cut_texts", part.n_cut, None, len(part.examples))

    def _measured(self, gold: IntArray, answers: Sequence[IntArray]) -> dict[str, Measured]:
        return measured(gold, answers, len(self.corpus.labels), positive=self._positive)

    def _predictions(self, answers: Sequence[_Answers]) -> bytes:
        """A row for each text and seed, as a Parquet file."""
        labels = np.array(self.corpus.labels, dtype=object)
        parts = self.corpus.asked_parts
        gold = np.concatenate([part.gold for part in parts.values()])
        columns = {
            "subset": [name for name, part in parts.items() for _ in part.examples] * len(answers),
            "place": [place for part in parts.values() for place in part.places] * len(answers),
            "seed": np.repeat([one.seed for one in answers], len(gold)),
            "label": np.tile(labels[gold], len(answers)),
            "predicted": np.concatenate([labels[one.labels] for one in answers]),
            "log_p": np.concatenate([one.log_p[np.arange(len(gold)), gold] for one in answers]),
        }
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        return bytes(sink.getvalue().to_pybytes())


@dataclass(frozen=True, slots=True)
class _Answers:
    """What one tuned model says of all texts that are asked.

    Attributes:
        seed: it was tuned with.
        learning_rate: that was chosen.
        epoch: that was chosen.
        dev_scores: of every epoch, by learning rate.
        curve: of the chosen training.
        labels: the likeliest, int64 [N].
        log_p: of all labels, float64 [N, K].
    """

    seed: int
    learning_rate: float
    epoch: int
    dev_scores: Mapping[float, Sequence[float]]
    curve: Curve
    labels: IntArray
    log_p: FloatArray


def _record(answers: Sequence[_Answers]) -> bytes:
    """What was tried and chosen for each seed, and the loss of every step of the chosen training, as JSON."""
    listed = [
        {
            "seed": one.seed,
            "learning_rate": one.learning_rate,
            "epoch": one.epoch,
            "dev_scores": {str(rate): list(scores) for rate, scores in one.dev_scores.items()},
            "losses": one.curve.losses.tolist(),
            "curve": [[int(step), score] for step, score in zip(one.curve.steps, one.curve.dev.tolist(), strict=True)],
        }
        for one in answers
    ]
    return json.dumps(listed, indent=1).encode()


def _subset_figures(subset: str, found: Mapping[str, Mapping[str, Measured]], n: int) -> Iterator[Figure]:
    """The model's own, then measure by measure those of the controls, then what seeds differ by."""
    model, controls = found[""], [ending for ending in found if ending]
    order = [(name, "") for name in model] + [(name, ending) for name in model for ending in controls]
    for name, ending in order:
        one = found[ending][name]
        yield Figure(subset, name + ending, 100 * one.value, None if one.se is None else 100 * one.se, n)
    for name, ending in order:
        if (sd := found[ending][name].seed_sd) is not None:
            yield Figure(subset, f"{name}{ending}_seed_sd", 100 * sd, None, n)


def _by_name(tests: Sequence[str]) -> dict[str, Path]:
    """Test files by what they are called: their names without endings."""
    found: dict[str, Path] = {}
    for test in tests:
        path = Path(test).expanduser()
        name = path.name.partition(".")[0]
        if name in found:
            raise PicoLMError(
                f"the test files {found[name]} and {path} have one name: their rows could not be told apart"
            )
        found[name] = path
    return found
