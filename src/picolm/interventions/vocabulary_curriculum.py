"""The vocabulary curriculum: words that are too hard yet are shown as unknown (Martinez et al. 2023, CLIMB)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.interventions.pacing import Pacing
from picolm.interventions.scanning import scanned
from picolm.interventions.word_classes import WordClasses
from picolm.seams import IGNORE, IntArray, Intervention, Run, Sequences, View

NAME = "vocabulary_curriculum"


class VocabularyCurriculum(Intervention):
    """Turns tokens that are not open at a step into the unknown token, in inputs and in targets, after masking.

    With p open, V entries of the vocabulary, n classes and g the class of a position, a token is open if

    =====================  ==============================================
    token_ids              its id is at most p V
    frequency              fewer than p V tokens are more frequent in the training rows
    pos_tags               g is at most p (n - 1)
    pos_tags_and_ids       id + g V is less than p n V
    =====================  ==============================================

    Special tokens are always open. At p = 1 nothing is changed. Validation shows everything at every step.
    """

    class Settings(schema.Section):
        """What is open first, how it opens, and what stands for the rest."""

        by: Literal["token_ids", "frequency", "pos_tags", "pos_tags_and_ids"] = Field(
            "frequency", description="what makes a token hard; the middle of the docs page has the four rules"
        )
        pacing: Pacing = Field(default_factory=Pacing, description="how much is open, by step")
        tagset: Literal["stored", "coarse"] = Field(
            "coarse", description="classes of pos_tags: the twelve in CLIMB's order, or as the data have them"
        )
        unknown: str | None = Field(
            None, description="the token that stands for what is closed; null: the unknown token, else the padding"
        )
        targets: Literal["unknown", "ignored"] = Field(
            "unknown", description="whether a closed target is to be predicted as unknown, or is not scored"
        )

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.said = -1
        self._lock = Lock()
        self._closing: _Closing | None = None

    def views(self, views: tuple[View, ...], sequences: Sequences, run: Run, *, measure: bool) -> tuple[View, ...]:
        """Close what is too hard yet; with `measure` nothing is."""
        share = self._share(sequences.step, run)
        if measure or share >= 1.0:
            return views
        closing = self._prepared(run)
        return tuple(self._closed(view, sequences, closing, share) for view in views)

    def before_step(self, run: Run) -> None:
        """Say in the log how much is open, at each tenth that is reached."""
        share = self._share(run.step, run)
        tenth = int(10 * share + 1e-9)
        if tenth != self.said:
            run.record("opened", share=share)
            self.said = tenth

    def state_dict(self) -> dict[str, Any]:
        """What was said last."""
        return {"said": self.said}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take that up."""
        self.said = int(state["said"])

    def _share(self, step: int, run: Run) -> float:
        return self.settings.pacing.at(step, run.config.training.steps)

    def _prepared(self, run: Run) -> _Closing:
        # Views are made on other threads, and the first of them finds what all of them use.
        with self._lock:
            if self._closing is None:
                self._closing = _Closing(self.settings, run)
            return self._closing

    def _closed(self, view: View, sequences: Sequences, closing: _Closing, share: float) -> View:
        tensors = dict(view.tensors)
        for name in sorted(view.token_fields & tensors.keys()):
            tags = _tags_at(name, tensors, sequences) if closing.needs_tags else None
            if closing.needs_tags and tags is None:
                continue
            ids = tensors[name].numpy()
            hard = ~closing.is_open(ids, tags, share) & (ids != IGNORE)
            is_ignored = name == "targets" and self.settings.targets == "ignored"
            tensors[name] = torch.from_numpy(np.where(hard, IGNORE if is_ignored else closing.unknown_id, ids))
        if self.settings.targets == "unknown" or "targets" not in view.token_fields:
            return replace(view, tensors=tensors)
        return replace(view, tensors=tensors, units=(tensors["targets"].numpy() != IGNORE).sum(axis=1, dtype=np.int64))


class _Closing:
    """What is needed to say whether a token is open; the same for a whole run."""

    def __init__(self, settings: VocabularyCurriculum.Settings, run: Run) -> None:
        tokenizer = run.tokenizer
        self.needs_tags = settings.by in ("pos_tags", "pos_tags_and_ids")
        self.unknown_id = _unknown_id(settings.unknown, run)
        self.vocab_size = tokenizer.vocab_size
        self._special = np.zeros(self.vocab_size, dtype=bool)
        self._special[[*tokenizer.special_ids, self.unknown_id]] = True
        self._classes = WordClasses.of(run, settings.tagset, NAME) if self.needs_tags else None
        self._rank = _frequency_ranks(run) if settings.by == "frequency" else None
        rules: dict[str, Callable[[IntArray, IntArray, float], Any]] = {
            "token_ids": lambda ids, groups, share: ids <= share * self.vocab_size,
            "frequency": lambda ids, groups, share: self._ranks()[ids] < share * self.vocab_size,
            "pos_tags": lambda ids, groups, share: groups <= share * (self._n_classes - 1),
            "pos_tags_and_ids": lambda ids, groups, share: (
                ids + groups * self.vocab_size < share * self._n_classes * self.vocab_size
            ),
        }
        self._rule = rules[settings.by]

    def is_open(self, ids: IntArray, tags: IntArray | None, share: float) -> Any:
        """Whether each token may be shown, bool of the shape of `ids`; `IGNORE` among them says nothing.

        Args:
            ids: token ids.
            tags: their parts of speech as in `Sequences.tags`; None where the rule needs none.
            share: p.
        """
        known = np.where(ids == IGNORE, 0, ids)
        groups = known
        if tags is not None and self._classes is not None:
            groups = self._classes.of_tag[tags]
            # What has no class at all opens last.
            groups = np.where(groups < 0, self._n_classes - 1, groups)
        return self._special[known] | self._rule(known, groups, share)

    @property
    def _n_classes(self) -> int:
        assert self._classes is not None
        return len(self._classes.names)

    def _ranks(self) -> IntArray:
        assert self._rank is not None
        return self._rank


def _tags_at(name: str, tensors: Mapping[str, Tensor], sequences: Sequences) -> IntArray | None:
    """The part of speech of each token in a tensor of a view; None where the view is not of the rows that are drawn."""
    assert sequences.tags is not None, "the data have tags, or the classes would have been refused"
    here = sequences.tags[:, :-1]
    if len(tensors[name]) != len(here):
        return None
    if name != "targets":
        return here if tensors[name].shape == here.shape else None
    if "positions" in tensors:
        return np.take_along_axis(here, tensors["positions"].numpy(), axis=1)
    behind = sequences.tags[:, 1:]
    return behind if tensors[name].shape == behind.shape else None


def _unknown_id(name: str | None, run: Run) -> int:
    tokenizer = run.tokenizer
    if name is not None:
        found = tokenizer.id_of(name)
        if found is None:
            raise PicoLMError(f"{NAME}.unknown: the tokenizer has no token '{name}'")
        return found
    if tokenizer.unk_id is not None:
        return tokenizer.unk_id
    if tokenizer.pad_id == tokenizer.separator_id:
        raise PicoLMError(
            f"the tokenizer has neither an unknown nor a padding token: name what stands for closed words in "
            f"{NAME}.unknown"
        )
    return tokenizer.pad_id


def _frequency_ranks(run: Run) -> IntArray:
    """For each token how many are more frequent in the training rows; of equal ones the lower id counts as more."""
    counts = np.zeros(run.tokenizer.vocab_size, dtype=np.int64)
    for rows in scanned(run, "counting tokens"):
        counts += np.bincount(rows.tokens[:, 1:].ravel(), minlength=len(counts))
    ranks = np.empty(len(counts), dtype=np.int64)
    ranks[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return ranks
