"""Lexical decision: how often a model finds a word more probable than a non-word that looks like one.

The task is Le Godais, Linzen & Dupoux's (2017), and BabySLM's spot-the-word (Lavechin et al. 2023) in writing.

The texts are single words, which a model meets behind a space as a rule: what stands before them decides about the
scores, so it is a setting. `picolm.evaluation.nonwords` makes non-words for the words of any language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from picolm.config.section import Section
from picolm.errors import PicoLMError
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.pair_files import Fields
from picolm.evaluation.pairs import MinimalPairs, PairsSettings, grouped
from picolm.evaluation.scoring import Scores, encode
from picolm.evaluation.statistics import share_of
from picolm.evaluation.task import Figure


class LexicalSettings(PairsSettings):
    """How words are read and judged."""

    leading_space: Literal["as_is", "space"] = Field("space", description="`space`: one is put before each word")
    good_field: str = Field("word", description="the field with the word")
    bad_field: str = Field("nonword", description="the field with the non-word")
    paradigm_field: str = Field("group", description="the field with the group in which a pair is reported")
    context_field: str = Field("context", description="the field with the text that stands before both, if any does")


class LexicalDecision(MinimalPairs):
    """Minimal pairs of a word and a non-word, of which only they themselves are scored."""

    Settings: ClassVar[type[Section]] = LexicalSettings
    kind: ClassVar[str] = "lexical"

    def _fields(self) -> Fields:
        assert isinstance(self.settings, LexicalSettings)
        return replace(super()._fields(), context=self.settings.context_field)

    def _texts(self) -> tuple[list[str], list[str]]:
        good, bad = super()._texts()
        contexts = [pair.context for pair in self._pairs]
        behind = [[context + word for context, word in zip(contexts, own, strict=True)] for own in (good, bad)]
        return behind[0], behind[1]

    def _reduced(self, scores: Scores, texts: Sequence[str]) -> FloatArray:
        """Sums are compared whole: what stands before both adds the same to both. Means are over the word alone."""
        contexts = [pair.context for pair in self._pairs]
        if self.settings.reduction == "sum" or not any(contexts):
            return super()._reduced(scores, texts)
        return super()._reduced(self._behind(scores, contexts), texts)

    def _behind(self, scores: Scores, contexts: Sequence[str]) -> Scores:
        """The scores of the words alone: of as many tokens at the end as contexts have fewer."""
        assert self._material is not None
        before = np.array([len(ids) for ids in encode(self._material.tokenizer, contexts)], dtype=np.int64)
        if self.settings.first_token == "none" and self._material.is_causal:
            # It is not scored; a masked model scores it too.
            before = np.maximum(before - 1, 0)
        left = scores.tokens - before
        for pair, count in zip(self._pairs, left.tolist(), strict=True):
            if count < 1 and pair.context:
                raise PicoLMError(f"{pair.place} has no token of its own behind its context '{pair.context}'")
        own = [log_p[len(log_p) - count :] for log_p, count in zip(scores.per_token, left.tolist(), strict=True)]
        return replace(scores, log_p=np.array([log_p.sum() for log_p in own]), tokens=left, per_token=own)

    def _figures(self, judged: FloatArray) -> list[Figure]:
        """Beside those of minimal pairs the mean over words, where some have several non-words (as BabySLM's)."""
        figures, words = super()._figures(judged), [f"{pair.paradigm}/{pair.good}" for pair in self._pairs]
        by_word = grouped(judged, words)
        if len(by_word) == len(words):
            return figures
        share = share_of(np.array([own.mean() for own in by_word.values()]))
        se = None if share.se is None else 100 * share.se
        return [*figures, Figure("all", "accuracy_over_words", 100 * share.value, se, share.n)]
