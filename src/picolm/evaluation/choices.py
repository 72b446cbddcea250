"""Multiple choice: how often a model finds the right one of several continuations most probable (ARC, HellaSwag, ...).

Prompts, tokens and normalizations are those of lm-evaluation-harness, so that figures compare with published ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from picolm.config.section import Count, Positive, Section, Seed, one_is_a_list
from picolm.errors import PicoLMError, to_standard_error
from picolm.evaluation import controls
from picolm.evaluation.answers import Answers, accuracy_interval
from picolm.evaluation.batching import IntArray
from picolm.evaluation.choice_files import Question, read_questions, sample, with_shots
from picolm.evaluation.choice_formats import FormatName
from picolm.evaluation.choosing import Ballot
from picolm.evaluation.continuations import Begin, cut, encode_continuations
from picolm.evaluation.controls import Unigram
from picolm.evaluation.greedy import score_written
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.scoring import Engine, encode, score_passages
from picolm.evaluation.task import Figure, Found, Material, Subject, Task
from picolm.evaluation.trees import Passage
from picolm.runs.digest import sha256_of_file

Control = Literal["unigram", "shortest", "longest", "constant", "untrained"]
ALL_CONTROLS: tuple[Control, ...] = ("unigram", "shortest", "longest", "constant", "untrained")
_ALONE = {"bos": "", "answer": "Answer:"}
"""What stands before a choice whose probability without its question is asked for."""
_UNTRAINED = "untrained.f8"
"""The scores of the untrained model, float64 in little-endian order."""


class ChoicesSettings(Section):
    """How questions are read and judged."""

    format: Literal["auto"] | FormatName = Field(
        "auto", description="of the records; `auto`: by the first one's fields"
    )
    delimiter: Literal["space", "none"] = Field("space", description="what parts context and continuation")
    begin: Begin = Field(
        "empty", description="the token that begins a text stands before contexts that are `empty`, or `always`"
    )
    unconditional: Literal["bos", "answer", "none"] = Field(
        "bos", description="what choices stand behind for `accuracy_pmi`; `none`: leave that out"
    )
    shots: Count = Field(0, description="answered examples before each question")
    shots_from: str | None = Field(None, description="the file of the examples; none: that of the questions")
    questions: Count = Field(0, description="draw so many, for quick looks; 0: all")
    group_field: str = Field("group", description="the field with a question's group, where there is one")
    controls: Annotated[tuple[Control, ...], BeforeValidator(one_is_a_list)] = Field(
        ALL_CONTROLS, description="what chooses without understanding, beside the model"
    )
    bootstrap: Positive = Field(2000, description="draws for the intervals")
    seed: Seed = Field(0, description="of the bootstrap, of `questions` and of `shots`")


class MultipleChoice(Task):
    """Accuracy on questions with choices; the right one among m best counts as 1/m."""

    Settings: ClassVar[type[Section]] = ChoicesSettings
    kind: ClassVar[str] = "choices"

    def __init__(self, settings: Section, path: str | None, label: str) -> None:
        super().__init__(settings, path, label)
        assert isinstance(settings, ChoicesSettings)
        if path is None:
            raise PicoLMError("the task choices needs a file: write choices:PATH, for example choices:arc.jsonl")
        self.settings = settings
        self._file = Path(path).expanduser()
        self._delimiter = " " if settings.delimiter == "space" else ""
        self._material: Material | None = None
        self._form: FormatName = "generic"
        self._questions: list[Question] = []
        self._passages: list[Passage] = []
        self._alone: list[Passage] = []
        self._is_cut: IntArray = np.empty(0, dtype=np.int64)
        self._controls: dict[str, Answers] = {}
        self._untrained: FloatArray | None = None

    def shared_files(self) -> Mapping[str, bytes]:
        """What the untrained model gives: it is the same beside every checkpoint."""
        return {} if self._untrained is None else {_UNTRAINED: self._untrained.astype("<f8").tobytes()}

    def recall(self, shared: Mapping[str, bytes]) -> None:
        """Spare the untrained model where it was asked before."""
        stored = np.frombuffer(shared.get(_UNTRAINED, b"")[: 8 * self._n_scores], dtype="<f8")
        if "untrained" in self.settings.controls and len(stored) == self._n_scores:
            self._untrained = stored

    def sources(self) -> dict[str, str]:
        """The file of questions and that of the examples."""
        pool = {} if self.settings.shots_from is None else {"shots": str(Path(self.settings.shots_from).absolute())}
        return {"data": str(self._file.absolute()), **pool}

    def prepare(self, material: Material) -> dict[str, Any]:
        """Read and tokenize the questions, and answer them by the controls that need no model."""
        if not material.is_causal:
            raise PicoLMError(
                f"{material.name} is a masked model, which continues no text: ask it for pairs instead of choices"
            )
        self._material = material
        self._form, self._questions = self._read()
        self._encode(material)
        facts = self._count(material)
        pool = self.settings.shots_from
        return {
            **self.settings.model_dump(mode="json", exclude={"shots_from"}),
            "format": self._form,
            "data_sha256": sha256_of_file(self._file),
            "shots_sha256": None if pool is None else sha256_of_file(Path(pool).expanduser()),
            "tokenizer": material.tokenizer.fingerprint,
            "bos": material.bos,
            **facts,
        }

    def measure(self, subject: Subject) -> Found:
        """Let a model answer, and what is compared with it."""
        assert self._material is not None
        needs_untrained = "untrained" in self.settings.controls and self._untrained is None
        subject.meter.expect((len(self._passages) + len(self._alone)) * (2 if needs_untrained else 1))
        answers = self._answers(self._scores(subject.engine, subject))
        if needs_untrained:
            engine = subject.engine
            model = self._material.untrained().to(engine.device)
            twin = Engine(model, engine.device, engine.precision, engine.batch_tokens)
            # The same for every checkpoint.
            self._untrained = self._scores(twin, subject)
        compared = dict(self._controls)
        if self._untrained is not None:
            compared["untrained"] = self._answers(self._untrained)
        figures: list[Figure] = []
        for subset, places in self._subsets():
            figures += self._figures(answers, compared, subset, places)
        return Found(figures)

    def _read(self) -> tuple[FormatName, list[Question]]:
        s = self.settings
        read = partial(read_questions, delimiter=self._delimiter, group_field=s.group_field)
        form, everything = read(self._file, s.format)
        questions = sample(everything, s.questions, s.seed) if s.questions else everything
        if s.shots:
            pool = everything if s.shots_from is None else read(Path(s.shots_from).expanduser(), form)[1]
            questions = with_shots(questions, pool, s.shots, s.seed)
        elif s.shots_from is not None:
            raise PicoLMError(f"shots_from={s.shots_from} is read only where there are shots: give shots=5, say")
        return form, questions

    def _encode(self, material: Material) -> None:
        """Make passages of all choices, behind their contexts and alone."""
        owners = [question for question in self._questions for _ in question.choices]
        contexts = [context for question in self._questions for context in question.contexts]
        continuations = [text for question in self._questions for text in question.continuations]
        places = [question.place for question in owners]
        encoded = partial(encode_continuations, material.tokenizer, bos=material.bos, places=places)
        whole = encoded(contexts, continuations, begin=self.settings.begin)
        self._passages = [cut(passage, material.window, place) for passage, place in zip(whole, places, strict=True)]
        is_cut = [len(own.tokens) < len(all_.tokens) for own, all_ in zip(self._passages, whole, strict=True)]
        self._is_cut = np.maximum.reduceat(np.array(is_cut, dtype=np.int64), self._ballot.starts)
        if n_cut := int(self._is_cut.sum()):
            to_standard_error(
                f"{self.label}: {n_cut:,} of {len(self._questions):,} questions are longer than the window of "
                f"{material.window:,} tokens and lose their beginnings"
            )
        alone = self.settings.unconditional
        if alone != "none" and not self._is_partial:
            begin = [_ALONE[alone]] * len(continuations)
            self._alone = [cut(p, material.window) for p in encoded(begin, continuations, begin=self.settings.begin)]

    @property
    def _ballot(self) -> Ballot:
        sizes = [len(question.choices) for question in self._questions]
        return Ballot.of(sizes, [question.answer for question in self._questions])

    @property
    def _is_partial(self) -> bool:
        """Whether what is scored is no choice, so that nothing is to be normalized: its length is the same for all."""
        return self._form in ("winogrande", "lambada")

    @property
    def _n_scores(self) -> int:
        """How many numbers are found of one model."""
        return 2 * len(self._passages) if self._form == "lambada" else len(self._passages) + len(self._alone)

    def _scores(self, engine: Engine, subject: Subject) -> FloatArray:
        """Log-probabilities of choices, then of choices alone; of last words, behind whether they are the likeliest."""
        if self._form == "lambada":
            written = score_written(engine, self._passages, subject.meter.advance)
            return np.array([*(one.is_greedy for one in written), *(one.log_p.sum() for one in written)], dtype=float)
        # Together: a choice without a context is the same passage twice, and must have the same score to the last bit.
        found = score_passages(engine, [*self._passages, *self._alone], subject.meter.advance)
        return np.array([float(log_p.sum()) for log_p in found])

    def _answers(self, found: FloatArray) -> Answers:
        if self._form == "lambada":
            is_greedy, last_word = np.split(found, 2)
            return Answers({"accuracy": is_greedy}, nats=-last_word)
        log_p, alone = np.split(found, [len(self._passages)])
        ballot = self._ballot
        scores = {"": log_p, **({} if self._is_partial else self._normalized(log_p, alone))}
        means = {"answer_probability": ballot.probabilities(log_p)}
        if not self._is_partial:
            bits = -log_p[ballot.answers] / math.log(2)
            means["answer_bits_per_byte"] = bits / self._lengths(lambda text: len(text.encode()))[ballot.answers]
        return Answers(
            {f"accuracy{name}": ballot.outcomes(own) for name, own in scores.items()},
            {f"ties{name}": ballot.ties(own) for name, own in scores.items()},
            means,
        )

    def _normalized(self, log_p: FloatArray, alone: FloatArray) -> dict[str, FloatArray]:
        pmi = {"_pmi": log_p - alone} if len(alone) else {}
        return {
            "_norm": log_p / self._lengths(len),
            **pmi,
            "_bytes": log_p / self._lengths(lambda text: len(text.encode())),
            "_tokens": log_p / np.array([passage.n_scored for passage in self._passages]),
        }

    def _lengths(self, length: Callable[[str], int]) -> FloatArray:
        return np.array([length(text) for question in self._questions for text in question.choices], dtype=np.float64)

    def _count(self, material: Material) -> dict[str, Any]:
        """Answer by what needs no model; return what decides about it."""
        wanted = self.settings.controls
        facts: dict[str, Any] = {"untrained_seed": material.untrained_seed} if "untrained" in wanted else {}
        self._controls, self._untrained = {}, None
        if self._form == "lambada":
            # Nothing is given to choose from.
            return facts
        ids = encode(material.tokenizer, [self._delimiter + text for q in self._questions for text in q.choices])
        scores: dict[str, FloatArray] = {}
        if "unigram" in wanted:
            split, size = material.training(), material.tokenizer.vocab_size
            unigram = Unigram.of_sentences(ids, size) if split is None else Unigram.of_training(split, size)
            scores["unigram"] = unigram.score(ids)
            facts["unigram"] = {"origin": unigram.origin, "tokens": int(unigram.counts.sum())}
        scores |= {"shortest": controls.by_length(ids)} if "shortest" in wanted else {}
        scores |= {"longest": -controls.by_length(ids)} if "longest" in wanted else {}
        scores |= {"constant": controls.constant(ids)} if "constant" in wanted else {}
        for name, own in scores.items():
            self._controls[name] = Answers({"accuracy": self._ballot.outcomes(own)}, {"ties": self._ballot.ties(own)})
        return facts

    def _figures(
        self, answers: Answers, compared: Mapping[str, Answers], subset: str, places: list[int]
    ) -> list[Figure]:
        s, n = self.settings, len(places)
        outcomes = answers.outcomes["accuracy"][places]
        accuracy, *rest = answers.figures(subset, places)
        chance = [] if self._form == "lambada" else [Figure(subset, "chance", 100 * self._chance(places), None, n)]
        figures = [accuracy, *accuracy_interval(subset, outcomes, draws=s.bootstrap, seed=s.seed), *chance, *rest]
        figures.append(Figure(subset, "cut", int(self._is_cut[places].sum()), None, n))
        for name in s.controls:
            if name in compared:
                figures += compared[name].figures(subset, places, f"_{name}")
        return figures

    def _chance(self, places: Sequence[int]) -> float:
        return float(self._ballot.chance[places].mean())

    def _subsets(self) -> list[tuple[str, list[int]]]:
        """All questions, then those of each group."""
        groups: dict[str, list[int]] = {}
        for place, question in enumerate(self._questions):
            if question.group:
                groups.setdefault(f"group/{question.group}", []).append(place)
        return [("all", list(range(len(self._questions)))), *groups.items()]
