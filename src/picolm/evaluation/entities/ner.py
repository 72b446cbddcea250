"""Named entities: a head that tags words, tuned on one language and asked there and, as it is, in others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field

from picolm.config.section import Count, Section, Seed, Strings, one_is_a_list
from picolm.errors import PicoLMError, nearest
from picolm.evaluation.batching import IntArray
from picolm.evaluation.entities.answers import GRID, Answers, tuning_figures
from picolm.evaluation.entities.comparison import counts_of_table, table_of_counts
from picolm.evaluation.entities.corpus import Corpus, Files, find_files, read_corpus, tags_of
from picolm.evaluation.entities.figures import Scored, anchor_figures, mean_figures, set_figures
from picolm.evaluation.entities.iob2 import OUTSIDE, TAGS
from picolm.evaluation.entities.resampling import DRAWS
from picolm.evaluation.entities.rules import PARTICLES, after_particle, capitalised, recall_by_anchor
from picolm.evaluation.entities.scores import Tags, counts, f1
from picolm.evaluation.progress import Meter
from picolm.evaluation.readout import Example
from picolm.evaluation.scoring import Engine
from picolm.evaluation.task import Figure, Found, Material, Subject, Task
from picolm.evaluation.tuning import Tuning, reader_of, tune
from picolm.model.heads import CRFHead, Head, SoftmaxHead
from picolm.runs.digest import sha256_of_file

Control = Literal["untrained", "majority", "rules"]
ALL_CONTROLS: tuple[Control, ...] = ("untrained", "majority", "rules")
_PATHS = ("train", "dev", "test", "transfer")
_UNTRAINED = "untrained.parquet"


class EntitySettings(Tuning):
    """What is read, and how a model is tuned to tag it."""

    train: str | None = Field(None, description="file of sentences to learn from, in place of the directory's")
    dev: str | None = Field(None, description="file of those that choose learning rate and epoch, likewise")
    test: str | None = Field(None, description="file of those that are asked, likewise")
    transfer: Strings = Field((), description="further test files, or directories with one: asked without training")
    head: Literal["softmax", "crf"] = Field("softmax", description="each word by itself, or a conditional random field")
    sentences: Count = Field(0, description="draw so many training sentences, for quick looks; 0: all")
    dropped_types: Strings = Field(("OTH",), description="types that count as no entity")
    pooled: Strings = Field((), description="names of test sets that are taken together too")
    particles: Strings = Field(PARTICLES, description="words before persons' names, written small")
    particle_languages: Strings = Field(("ceb", "tl"), description="beginnings of the names of sets that have them")
    controls: Annotated[tuple[Control, ...], BeforeValidator(one_is_a_list)] = Field(
        ALL_CONTROLS, description="what knows less than the model, beside it"
    )
    curve_every: int = Field(
        GRID, ge=0, le=GRID, description="updates between dev scores of the chosen training's curve; 0: none"
    )
    bootstrap: int = Field(DRAWS, ge=2, description="draws of sentences for the intervals")
    seed: Seed = Field(0, description="of the bootstrap and of `sentences`")


class NamedEntities(Task):
    """F1 of whole names, of a head on features of words."""

    Settings: ClassVar[type[Section]] = EntitySettings
    kind: ClassVar[str] = "ner"

    def __init__(self, settings: Section, path: str | None, label: str) -> None:
        super().__init__(settings, path, label)
        assert isinstance(settings, EntitySettings)
        if path is None and settings.train is None:
            raise PicoLMError(
                "the task ner needs a directory with *-train.iob2, *-dev.iob2 and *-test.iob2, or files: "
                "write ner:DIRECTORY, or ner train=... dev=... test=..."
            )
        self.settings = settings
        self._files: Files | None = None
        self._material: Material | None = None
        self._corpus: Corpus | None = None
        self._untrained: dict[str, IntArray] = {}

    def sources(self) -> dict[str, str]:
        """The files of sentences."""
        return {name: str(path.absolute()) for name, path in self._files.by_name().items()} if self._files else {}

    def prepare(self, material: Material) -> dict[str, Any]:
        """Read and encode all sentences."""
        s = self.settings
        files = find_files(self.path, s.train, s.dev, s.test, s.transfer)
        for name in s.pooled:
            if name not in files.tests:
                raise PicoLMError(f"pooled={name} is no test set{nearest(name, files.tests)}")
        corpus = read_corpus(files, material, dropped=s.dropped_types, sentences=s.sentences, seed=s.seed)
        self._material, self._files, self._corpus = material, files, corpus
        parts = {"train": corpus.train, "dev": corpus.dev, **corpus.tests}
        settings = s.identity(is_causal=material.is_causal)
        return {
            # Files are known by what is in them, wherever they stand.
            **{key: value for key, value in settings.items() if key not in _PATHS},
            "data_sha256": {name: sha256_of_file(path) for name, path in files.by_name().items()},
            "data": {name: part.facts() for name, part in parts.items()},
            "tokenizer": material.tokenizer.fingerprint,
            "bos": material.bos,
            **({"untrained_seed": material.untrained_seed} if "untrained" in s.controls else {}),
        }

    def shared_files(self) -> Mapping[str, bytes]:
        """How the untrained model did: it is the same beside every checkpoint."""
        return {_UNTRAINED: table_of_counts(self._untrained, self.settings.seeds)} if self._untrained else {}

    def recall(self, shared: Mapping[str, bytes]) -> None:
        """Spare the untrained model where it was asked before."""
        if _UNTRAINED in shared:
            self._untrained = counts_of_table(shared[_UNTRAINED], _UNTRAINED)

    def measure(self, subject: Subject) -> Found:
        """Tune a head, or the model with it, for each seed, and ask it all test sets; an untrained model too, once."""
        engine = subject.engine
        answers = self._answers(engine, subject.meter)
        if "untrained" in self.settings.controls and not self._untrained:
            assert self._material is not None
            untrained = replace(engine, model=self._material.untrained().to(engine.device))
            self._untrained = self._counts(self._answers(untrained, subject.meter))
        found = self._counts(answers)
        files = {
            "sentences.parquet": table_of_counts(found, self.settings.seeds),
            "tuning.json": json.dumps([one.record() for one in answers], indent=1).encode(),
        }
        return Found(self._figures(answers, found), files)

    @property
    def corpus(self) -> Corpus:
        """The sentences, after `prepare`."""
        assert self._corpus is not None
        return self._corpus

    def _answers(self, engine: Engine, meter: Meter) -> list[Answers]:
        corpus, s = self.corpus, self.settings
        gold = corpus.dev.tags

        def score(_: Sequence[Example], predicted: Sequence[IntArray]) -> float:
            return float(f1(counts(gold, [tags_of(labels) for labels in predicted]).sum(axis=(0, 1))))

        def make_head(width: int, generator: torch.Generator) -> Head:
            return head_of(s.head, width, generator)

        parts = corpus.train.examples, corpus.dev.examples
        return [
            Answers.of(tuned, corpus) for tuned in tune(reader_of(engine, s), make_head, *parts, score, s, meter=meter)
        ]

    def _counts(self, answers: Sequence[Answers], *, strict: bool = False) -> dict[str, IntArray]:
        """Counts of each test set, [N, S, K, 3]."""
        return {
            name: np.stack([counts(part.tags, one.tags[name], strict=strict) for one in answers], axis=1)
            for name, part in self.corpus.tests.items()
        }

    def _figures(self, answers: Sequence[Answers], found: Mapping[str, IntArray]) -> list[Figure]:
        s, strict = self.settings, self._counts(answers, strict=True)
        sets = {
            name: Scored.of(found[name], strict[name], self._controls(name), draws=s.bootstrap, seed=s.seed, name=name)
            for name in self.corpus.tests
        }
        figures = [*mean_figures(sets), *tuning_figures(answers)]
        if s.pooled:
            figures += set_figures("pooled", Scored.together([sets[name] for name in dict.fromkeys(s.pooled)]))
        for name, part in self.corpus.tests.items():
            figures += set_figures(name, sets[name])
            if self._has_particles(name):
                by_seed = [recall_by_anchor(part.sentences, one.tags[name], s.particles) for one in answers]
                figures += anchor_figures(name, by_seed)
        return figures

    def _controls(self, name: str) -> dict[str, IntArray]:
        """Counts of what knows less than the model on a test set, [N, its seeds, K, 3] each."""
        s, part = self.settings, self.corpus.tests[name]
        found = {"untrained": self._untrained[name]} if "untrained" in s.controls else {}
        said: dict[str, list[Tags]] = {}
        if "rules" in s.controls:
            said["after_particle"] = [after_particle(sentence.words, s.particles) for sentence in part.sentences]
            said["capitalised"] = [capitalised(sentence.words) for sentence in part.sentences]
        if "majority" in s.controls:
            said["majority"] = [[OUTSIDE] * len(tags) for tags in part.tags]
        return found | {control: counts(part.tags, tags)[:, None] for control, tags in said.items()}

    def _has_particles(self, name: str) -> bool:
        return name.replace("-", "_").partition("_")[0] in self.settings.particle_languages


def head_of(kind: Literal["softmax", "crf"], width: int, generator: torch.Generator) -> Head:
    """A head over `TAGS`; a conditional random field gives no sequence that IOB2 does not know.

    Args:
        kind: which.
        width: of the features.
        generator: of the initial values.
    """
    if kind == "softmax":
        return SoftmaxHead(width, len(TAGS), generator)
    legal = [[not tag.startswith("I-") or before[2:] == tag[2:] for tag in TAGS] for before in TAGS]
    # A sentence begins as if behind `O`.
    return CRFHead(width, len(TAGS), torch.tensor(legal[TAGS.index(OUTSIDE)]), torch.tensor(legal), generator)
