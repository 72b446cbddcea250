"""Nominalization and its like: whether a model wavers between two forms as much as people do.

In BabyLM's task of 2025 people made nouns of nonce adjectives, in -ity or in -ness (Hofmann et al. 2025). A file may
hold any two candidates and the share of people who chose the first one; the model's share is exp(a) / (exp(a) + exp(b))
of their log-probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field

from picolm.config.section import Positive, Section, Seed, one_is_a_list
from picolm.errors import PicoLMError
from picolm.evaluation import controls
from picolm.evaluation.controls import Unigram
from picolm.evaluation.correlation import correlation, pearson, spearman
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.masked import Hiding
from picolm.evaluation.pairs import ALL_CONTROLS, Control, scorer_of
from picolm.evaluation.records import Record, read_records
from picolm.evaluation.scoring import Engine, FirstToken, encode
from picolm.evaluation.statistics import share_of
from picolm.evaluation.task import Figure, Found, Material, Subject, Task
from picolm.evaluation.word_values import real_number
from picolm.runs.digest import sha256_of_file

_UNTRAINED = "untrained.f8"
"""The differences of the untrained model, float64."""


class NominalizationSettings(Section):
    """How candidates are read and compared."""

    first_token: FirstToken = Field("bos", description="`bos`: every token is scored; `none`: all but the first")
    hiding: Hiding = Field("within_word_l2r", description="what a masked model's pseudo-log-likelihood hides")
    candidates_field: str = Field("sentences", description="the field with both: a list, or joined by a tab")
    ratio_field: str = Field("ratio", description="the field with the share of people who chose the first one")
    group_field: str = Field("group", description="the field with the group in which an item is reported, if any")
    controls: Annotated[tuple[Control, ...], BeforeValidator(one_is_a_list)] = Field(
        ALL_CONTROLS, description="scorers that know no grammar, beside the model"
    )
    bootstrap: Positive = Field(2000, description="draws for the intervals")
    seed: Seed = Field(0, description="of the bootstrap")


@dataclass(frozen=True, slots=True)
class Item:
    """Two candidates.

    Attributes:
        first: the one whose share is given.
        second: the other.
        ratio: share of people who chose the first, from 0 to 1.
        group: empty where there is none.
        place: file and line, for errors.
    """

    first: str
    second: str
    ratio: float
    group: str
    place: str


class Nominalization(Task):
    """Correlation of a model's shares with people's."""

    Settings: ClassVar[type[Section]] = NominalizationSettings
    kind: ClassVar[str] = "nominalization"

    def __init__(self, settings: Section, path: str | None, label: str) -> None:
        super().__init__(settings, path, label)
        assert isinstance(settings, NominalizationSettings)
        if path is None:
            raise PicoLMError("the task nominalization needs a file: write nominalization:PATH")
        self.settings = settings
        self._file = Path(path).expanduser()
        self._items: list[Item] = []
        self._material: Material | None = None
        self._controls: dict[str, FloatArray] = {}

    def shared_files(self) -> Mapping[str, bytes]:
        """What the untrained model found: it is the same beside every checkpoint."""
        untrained = self._controls.get("untrained")
        return {} if untrained is None else {_UNTRAINED: untrained.astype("<f8").tobytes()}

    def recall(self, shared: Mapping[str, bytes]) -> None:
        """Spare the untrained model where it was asked before."""
        stored = shared.get(_UNTRAINED, b"")
        if "untrained" in self.settings.controls and len(stored) == 8 * len(self._items):
            self._controls["untrained"] = np.frombuffer(stored, dtype="<f8").astype(np.float64)

    def prepare(self, material: Material) -> dict[str, Any]:
        """Read the items, and compare them by the controls that need no model."""
        self._material = material
        self._items = read_items(self._file, self.settings)
        settings = self.settings.model_dump(mode="json")
        # What does not concern this kind of model decides about nothing.
        settings.pop("hiding") if material.is_causal else None
        return {
            **settings,
            "data_sha256": sha256_of_file(self._file),
            "tokenizer": material.tokenizer.fingerprint,
            "bos": material.bos,
            **self._count(material),
        }

    def measure(self, subject: Subject) -> Found:
        """Compare the candidates by a model."""
        assert self._material is not None
        needs_untrained = "untrained" in self.settings.controls and "untrained" not in self._controls
        subject.meter.expect(2 * len(self._items) * (2 if needs_untrained else 1))
        found = self._difference(subject.engine, subject)
        if needs_untrained:
            engine = subject.engine
            model = self._material.untrained().to(engine.device)
            untrained = Engine(model, engine.device, engine.precision, engine.batch_tokens)
            self._controls["untrained"] = self._difference(untrained, subject)
        figures = list(self._figures("", found))
        for name in self.settings.controls:
            figures += self._figures(f"_{name}", self._controls[name])
        return Found(figures)

    def _count(self, material: Material) -> dict[str, Any]:
        wanted, facts = self.settings.controls, dict[str, Any]()
        first, second = (encode(material.tokenizer, texts) for texts in self._texts())
        scores: dict[str, Callable[[Sequence[Any]], FloatArray]] = {}
        if "unigram" in wanted:
            split, size = material.training(), material.tokenizer.vocab_size
            both = [*first, *second]
            unigram = Unigram.of_sentences(both, size) if split is None else Unigram.of_training(split, size)
            scores["unigram"] = unigram.score
            facts["unigram"] = {"origin": unigram.origin, "tokens": int(unigram.counts.sum())}
        scores |= {"length": controls.by_length} if "length" in wanted else {}
        scores |= {"constant": controls.constant} if "constant" in wanted else {}
        self._controls = {name: score(first) - score(second) for name, score in scores.items()}
        return facts | ({"untrained_seed": material.untrained_seed} if "untrained" in wanted else {})

    def _texts(self) -> tuple[list[str], list[str]]:
        return [item.first for item in self._items], [item.second for item in self._items]

    def _difference(self, engine: Engine, subject: Subject) -> FloatArray:
        """Log-probability of the first candidate less that of the second, nats [N]."""
        assert self._material is not None
        scorer = scorer_of(engine, self._material, self.settings)
        places = [item.place for item in self._items]
        first, second = scorer.score_pairs(*self._texts(), places, subject.meter.advance, apart=True)
        found = first.log_p - second.log_p
        if not np.isfinite(found).all():
            raise PicoLMError("the model gives a text a log-probability that is not finite: its weights are broken")
        return np.asarray(found)

    def _figures(self, suffix: str, difference: FloatArray) -> Iterator[Figure]:
        groups = np.array([item.group for item in self._items], dtype=object)
        ratios = np.array([item.ratio for item in self._items])
        for subset in ("all", *(f"group/{name}" for name in dict.fromkeys(groups) if name)):
            own = np.ones(len(groups), dtype=bool) if subset == "all" else groups == subset.partition("/")[2]
            yield from self._comparison(subset, suffix, difference[own], ratios[own])

    def _comparison(self, subset: str, suffix: str, difference: FloatArray, ratios: FloatArray) -> Iterator[Figure]:
        """Rho and r of shares, and how often model and people prefer the same; a constant has no correlation."""
        shares = share_of_first(difference)
        # Ranks of the differences are those of the shares, but for shares that round to 0 or 1.
        for name, coefficient, x in (("spearman", spearman, difference), ("pearson", pearson, shares)):
            drawn = {"draws": self.settings.bootstrap, "seed": self.settings.seed}
            found = correlation(coefficient, x, ratios, key=subset, **drawn)
            if found is None:
                continue
            yield Figure(subset, f"{name}{suffix}", 100 * found.value, None, found.n)
            if not suffix and found.low is not None and found.high is not None:
                yield Figure(subset, f"{name}_low", 100 * found.low, None, found.n)
                yield Figure(subset, f"{name}_high", 100 * found.high, None, found.n)
        decided = ratios != 0.5
        if decided.any():
            same = np.sign(difference[decided]) * np.sign(ratios[decided] - 0.5)
            agreed = share_of(0.5 * (same + 1))
            se = None if agreed.se is None else 100 * agreed.se
            yield Figure(subset, f"agreement{suffix}", 100 * agreed.value, se, agreed.n)


def share_of_first(difference: FloatArray) -> FloatArray:
    """Softmax over two log-probabilities, the first of both, from what the first has more [N]; it does not overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(difference / 2))


def read_items(path: Path, settings: NominalizationSettings) -> list[Item]:
    """Read all items of a file of JSON lines.

    Raises:
        PicoLMError: the file is not what it must be, or an item has no two candidates or no ratio; named by line.
    """
    return [_item(record, settings) for record in read_records(path, "candidates")]


def _item(record: Record, settings: NominalizationSettings) -> Item:
    name, ratio = settings.candidates_field, settings.ratio_field
    is_list = isinstance(record.values.get(name), list)
    candidates = list(record.texts(name)) if is_list else record.text(name).split("\t")
    if len(candidates) != 2 or not all(text.strip() for text in candidates):
        raise PicoLMError(
            f"{record.place} has {len(candidates)} candidates in its '{name}', which must be two, "
            "in a list or parted by a tab"
        )
    share = real_number(record, ratio)
    if not 0 <= share <= 1:
        raise PicoLMError(f"{record.place} has {share:g} as its '{ratio}', which must be a share from 0 to 1")
    return Item(candidates[0], candidates[1], share, record.label(settings.group_field), record.place)
