"""Minimal pairs: how often a model finds the better of two sentences that differ in one thing (BLiMP and its like)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field

from picolm.config.section import Count, Positive, Section, Seed, one_is_a_list
from picolm.errors import PicoLMError
from picolm.evaluation import controls
from picolm.evaluation.controls import Unigram
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.masked import Hiding, MaskedScorer
from picolm.evaluation.pair_files import Fields, Pair, keep, read_filter, read_pairs, sample
from picolm.evaluation.scoring import CausalScorer, Engine, FirstToken, Scorer, Scores, encode
from picolm.evaluation.statistics import Share, interval, mean_of, resampled, resampled_mean, share_of
from picolm.evaluation.task import Figure, Found, Material, Subject, Task
from picolm.runs.digest import sha256_of_file
from picolm.runs.evaluations import table_bytes

Control = Literal["unigram", "length", "constant", "untrained"]
_PARTED = ("term/argument_structure", "term/s-selection")
_WHOLE = "term/argument_structure+s-selection"
"""One term in the paper (Warstadt et al. 2020), two in its files."""
_UNTRAINED = "untrained.u8"
"""Twice the outcome of each pair, a byte each."""
OUTCOMES, PAIRS = "outcomes.u8", "pairs.parquet"
"""Endings of the same of each checkpoint, and of what all of them share: which pairs these are, in this order."""
ALL_CONTROLS: tuple[Control, ...] = ("unigram", "length", "constant", "untrained")


class PairsSettings(Section):
    """How pairs are read and judged."""

    first_token: FirstToken = Field("bos", description="`bos`: every token is scored; `none`: all but the first")
    leading_space: Literal["as_is", "space"] = Field("as_is", description="`space`: one is put before each sentence")
    reduction: Literal["sum", "mean", "characters"] = Field(
        "sum", description="of log-probabilities over a sentence: divided by its tokens, or by its characters"
    )
    hiding: Hiding = Field("within_word_l2r", description="what a masked model's pseudo-log-likelihood hides")
    filter: str | None = Field(None, description="a JSON file of paradigms and the ids of the pairs to keep")
    pairs_per_paradigm: Count = Field(0, description="draw so many of each, for quick looks; 0: all")
    good_field: str = Field("sentence_good", description="the field with the right sentence")
    bad_field: str = Field("sentence_bad", description="the field with the wrong one")
    paradigm_field: str = Field("UID", description="the field with the smallest group")
    term_field: str = Field("linguistics_term", description="the field with a larger group")
    field_field: str = Field("field", description="the field with the largest group")
    id_field: str = Field("pairID", description="the field that a filter refers to")
    controls: Annotated[tuple[Control, ...], BeforeValidator(one_is_a_list)] = Field(
        ALL_CONTROLS, description="scorers that know no grammar, beside the model"
    )
    bootstrap: Positive = Field(2000, description="draws for the intervals")
    seed: Seed = Field(0, description="of the bootstrap and of `pairs_per_paradigm`")


class MinimalPairs(Task):
    """Accuracy on pairs; a tie counts as a half."""

    Settings: ClassVar[type[Section]] = PairsSettings
    kind: ClassVar[str] = "pairs"

    def __init__(self, settings: Section, path: str | None, label: str) -> None:
        super().__init__(settings, path, label)
        assert isinstance(settings, PairsSettings)
        if path is None:
            raise PicoLMError(
                f"the task {self.kind} needs a file: write {self.kind}:PATH, as in {self.kind}:pairs.jsonl"
            )
        self.settings = settings
        self._file = Path(path).expanduser()
        self._pairs: list[Pair] = []
        self._material: Material | None = None
        self._controls: dict[str, FloatArray] = {}

    def shared_files(self) -> Mapping[str, bytes]:
        """Which pairs these are, and how the untrained model did: it is the same beside every checkpoint."""
        names = ("id", "paradigm", "term", "field")
        columns = {
            name: pa.array([getattr(pair, name) for pair in self._pairs], pa.string()).dictionary_encode()
            for name in names
        }
        shared = {PAIRS: table_bytes(pa.table(columns))}
        if "untrained" in self._controls:
            shared[_UNTRAINED] = _packed(self._controls["untrained"])
        return shared

    def recall(self, shared: Mapping[str, bytes]) -> None:
        """Spare the untrained model where it was asked before."""
        if "untrained" in self.settings.controls and len(shared.get(_UNTRAINED, b"")) == len(self._pairs):
            self._controls["untrained"] = np.frombuffer(shared[_UNTRAINED], dtype=np.uint8) / 2

    def sources(self) -> dict[str, str]:
        """The file of pairs and that of the filter."""
        listed = {} if self.settings.filter is None else {"filter": str(Path(self.settings.filter).absolute())}
        return {"data": str(self._file.absolute()), **listed}

    def prepare(self, material: Material) -> dict[str, Any]:
        """Read the pairs, and judge them by the controls that need no model."""
        self._material = material
        self._pairs = self._read()
        settings = self.settings.model_dump(mode="json", exclude={"filter"})
        # What does not concern this kind of model decides about nothing.
        settings.pop("hiding") if material.is_causal else None
        self._controls, facts = self._countings(material)
        filtered = None if self.settings.filter is None else sha256_of_file(Path(self.settings.filter).expanduser())
        return {
            **settings,
            "data_sha256": sha256_of_file(self._file),
            "filter_sha256": filtered,
            "tokenizer": material.tokenizer.fingerprint,
            "bos": material.bos,
            **facts,
        }

    def measure(self, subject: Subject) -> Found:
        """Judge the pairs by a model, and by what is compared with it."""
        assert self._material is not None
        needs_untrained = "untrained" in self.settings.controls and "untrained" not in self._controls
        subject.meter.expect(2 * len(self._pairs) * (2 if needs_untrained else 1))
        model = self._judged(subject.engine, subject)
        if needs_untrained:
            untrained = Engine(
                self._material.untrained().to(subject.engine.device),
                subject.engine.device,
                subject.engine.precision,
                subject.engine.batch_tokens,
            )
            # The same for every checkpoint.
            self._controls["untrained"] = self._judged(untrained, subject)
        return Found([*self._figures(model), *self._control_figures()], {OUTCOMES: _packed(model)})

    def _read(self) -> list[Pair]:
        s = self.settings
        pairs = read_pairs(self._file, self._fields())
        if s.filter is not None:
            listed = Path(s.filter).expanduser()
            pairs = keep(pairs, read_filter(listed), listed)
        return sample(pairs, s.pairs_per_paradigm, s.seed) if s.pairs_per_paradigm else pairs

    def _fields(self) -> Fields:
        s = self.settings
        return Fields(s.good_field, s.bad_field, s.paradigm_field, s.term_field, s.field_field, s.id_field)

    def _texts(self) -> tuple[list[str], list[str]]:
        space = " " if self.settings.leading_space == "space" else ""
        return [space + pair.good for pair in self._pairs], [space + pair.bad for pair in self._pairs]

    def _judged(self, engine: Engine, subject: Subject) -> FloatArray:
        assert self._material is not None
        scorer = scorer_of(engine, self._material, self.settings)
        good, bad = self._texts()
        places = [pair.place for pair in self._pairs]
        apart = self.settings.reduction == "sum"
        scores = scorer.score_pairs(good, bad, places, subject.meter.advance, apart=apart)
        own = ([pair.good for pair in self._pairs], [pair.bad for pair in self._pairs])
        return outcomes(*(self._reduced(one, texts) for one, texts in zip(scores, own, strict=True)))

    def _reduced(self, scores: Scores, texts: Sequence[str]) -> FloatArray:
        """What sentences are compared by, [N]; `texts` are what the file holds."""
        if self.settings.reduction == "characters":
            return np.asarray(scores.log_p / np.array([len(text) for text in texts]))
        return scores.mean() if self.settings.reduction == "mean" else scores.log_p

    def _countings(self, material: Material) -> tuple[dict[str, FloatArray], dict[str, Any]]:
        wanted, facts = self.settings.controls, dict[str, Any]()
        good, bad = (encode(material.tokenizer, texts) for texts in self._texts())
        scores: dict[str, Callable[[Sequence[Any]], FloatArray]] = {}
        if "unigram" in wanted:
            split = material.training()
            size = material.tokenizer.vocab_size
            unigram = Unigram.of_sentences([*good, *bad], size) if split is None else Unigram.of_training(split, size)
            scores["unigram"] = unigram.score
            facts["unigram"] = {"origin": unigram.origin, "tokens": int(unigram.counts.sum())}
        scores |= {"length": controls.by_length} if "length" in wanted else {}
        scores |= {"constant": controls.constant} if "constant" in wanted else {}
        facts |= {"untrained_seed": material.untrained_seed} if "untrained" in wanted else {}
        return {name: outcomes(score(good), score(bad)) for name, score in scores.items()}, facts

    def _figures(self, judged: FloatArray) -> list[Figure]:
        by_paradigm = grouped(judged, [pair.paradigm for pair in self._pairs])
        shares = {name: share_of(group) for name, group in by_paradigm.items()}
        draws = {
            name: resampled(group, draws=self.settings.bootstrap, seed=self.settings.seed, key=name)
            for name, group in by_paradigm.items()
        }
        figures = []
        for subset, members in self._subsets().items():
            found = mean_of([shares[name] for name in members])
            low, high = interval(resampled_mean(draws, members))
            ties = sum(int((by_paradigm[name] == 0.5).sum()) for name in members)
            figures += [
                _per_cent(subset, "accuracy", found),
                Figure(subset, "accuracy_low", 100 * low, None, found.n),
                Figure(subset, "accuracy_high", 100 * high, None, found.n),
                Figure(subset, "ties", ties, None, found.n),
            ]
        return [*figures, *self._other_means(shares), _per_cent("all", "accuracy_over_pairs", share_of(judged))]

    def _other_means(self, shares: Mapping[str, Share]) -> list[Figure]:
        """Means over terms: as they stand in the files, and over the 12 of the paper where files have BLiMP's 13."""
        terms = {name: members for name, members in self._subsets().items() if name.startswith("term/")}
        whole = terms.pop(_WHOLE, None)
        means = {name: mean_of([shares[paradigm] for paradigm in members]) for name, members in terms.items()}
        figures = [_per_cent("all", "accuracy_over_terms", mean_of(list(means.values())))] if means else []
        if whole is not None:
            twelve = [mean for name, mean in means.items() if name not in _PARTED]
            twelve.append(mean_of([shares[paradigm] for paradigm in whole]))
            figures.append(_per_cent("all", "accuracy_over_12_terms", mean_of(twelve)))
        return figures

    def _control_figures(self) -> list[Figure]:
        figures = []
        for name in self.settings.controls:
            by_paradigm = grouped(self._controls[name], [pair.paradigm for pair in self._pairs])
            shares = {paradigm: share_of(group) for paradigm, group in by_paradigm.items()}
            for subset, members in self._subsets().items():
                found = mean_of([shares[paradigm] for paradigm in members])
                ties = sum(int((by_paradigm[paradigm] == 0.5).sum()) for paradigm in members)
                figures.append(_per_cent(subset, f"accuracy_{name}", found))
                figures.append(Figure(subset, f"ties_{name}", ties, None, found.n))
        return figures

    def _subsets(self) -> dict[str, list[str]]:
        """Each subset with its paradigms: all of them, then by field, by term and one by one."""
        subsets: dict[str, dict[str, None]] = {"all": dict.fromkeys(pair.paradigm for pair in self._pairs)}
        for kind in ("field", "term", "paradigm"):
            for pair in self._pairs:
                if name := getattr(pair, kind):
                    subsets.setdefault(f"{kind}/{name}", {})[pair.paradigm] = None
            if kind == "term" and all(part in subsets for part in _PARTED):
                subsets[_WHOLE] = {name: None for part in _PARTED for name in subsets[part]}
        return {name: list(members) for name, members in subsets.items()}


def _packed(outcomes: FloatArray) -> bytes:
    """Twice the outcomes, a byte each."""
    return (2 * outcomes).astype(np.uint8).tobytes()


class ReadingSettings(Protocol):
    """Settings that say how sentences are read."""

    @property
    def first_token(self) -> FirstToken:
        """Whether the first token is scored."""

    @property
    def hiding(self) -> Hiding:
        """What a masked model's pseudo-log-likelihood hides."""


def scorer_of(engine: Engine, material: Material, settings: ReadingSettings) -> Scorer:
    """The scorer that fits a model: log-probability where it is causal, pseudo-log-likelihood where it is masked."""
    if material.is_causal:
        return CausalScorer(engine, material.tokenizer, first_token=settings.first_token, bos=material.bos)
    return MaskedScorer(
        engine,
        material.tokenizer,
        first_token=settings.first_token,
        hiding=settings.hiding,
        bos=material.bos,
    )


def outcomes(good: FloatArray, bad: FloatArray) -> FloatArray:
    """1 where the good sentence has the higher score, 0.5 where both have the same, else 0; [N].

    Raises:
        PicoLMError: a score is no number: the model is broken.
    """
    if not (np.isfinite(good).all() and np.isfinite(bad).all()):
        raise PicoLMError("the model gives a sentence a log-probability that is not finite: its weights are broken")
    return np.asarray(0.5 * (np.sign(good - bad) + 1))


def grouped(values: FloatArray, names: Sequence[str]) -> Mapping[str, FloatArray]:
    """Part values by names, in the order in which the names first appear."""
    labels = {name: number for number, name in enumerate(dict.fromkeys(names))}
    numbers = np.array([labels[name] for name in names])
    return {name: values[numbers == number] for name, number in labels.items()}


def _per_cent(subset: str, metric: str, share: Share) -> Figure:
    return Figure(subset, metric, 100 * share.value, None if share.se is None else 100 * share.se, share.n)
