"""Learning curves of words: the mean surprisal over a word's occurrences at each checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from picolm.errors import PicoLMError, nearest
from picolm.evaluation.batching import IntArray
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.trajectories import TokenTrajectories, choose, steps_of
from picolm.evaluation.words import WORDS


@dataclass(frozen=True, slots=True)
class LearningCurves:
    """W words at S checkpoints.

    Attributes:
        steps: ascending, int64 [S].
        words: their forms (see `form_of`), W.
        surprisal: mean over a word's occurrences, each the sum over its tokens, in nats, float64 [S, W].
        occurrences: int64 [W].
        tokens: mean number of tokens of an occurrence, float64 [W].
        unigram: mean surprisal by counts of the training tokens alone, float64 [W]; NaN where they were not there.
        log_frequency: of the word, float64 [W]; NaN where it is not known.
        vocab_size: of the tokenizer.
    """

    steps: IntArray
    words: tuple[str, ...]
    surprisal: FloatArray
    occurrences: IntArray
    tokens: FloatArray
    unigram: FloatArray
    log_frequency: FloatArray
    vocab_size: int

    def of(self, word: str) -> FloatArray:
        """The curve of one word, nats [S].

        Raises:
            PicoLMError: it has none.
        """
        if word not in self.words:
            raise PicoLMError(f"there is no curve of the word '{word}'{nearest(word, self.words)}")
        return np.asarray(self.surprisal[:, self.words.index(word)])


def read_learning_curves(place: Path | str, label: str | None = None, least: int = 1) -> LearningCurves:
    """Curves of what the task `words` kept.

    Args:
        place: the run, or its `eval/`.
        label: how the task is named; None: the only one that is there.
        least: words that stand in the texts fewer times are left out.

    Raises:
        PicoLMError: there is nothing to read, or no word stands so often.
    """
    found = choose(place, "words", label)
    steps, tables = steps_of(found), [one.table(WORDS) for one in found]
    surprisal = np.stack([table["surprisal"].to_numpy() for table in tables])
    table = tables[0]
    known = ~np.isnan(surprisal).any(axis=0) & (table["form"].to_numpy() != "")
    surprisal, table = surprisal[:, known], table.filter(pa.array(known))
    vocab_size = int(found[0].part.identity["vocab_size"])
    numbers = {name: _numbers(table, name) for name in ("tokens", "unigram", "log_frequency")}
    return _curves(steps, table["form"].to_pylist(), surprisal, numbers, vocab_size, least)


def learning_curves(trajectories: TokenTrajectories, least: int = 1) -> LearningCurves:
    """Curves of the words of a probe text whose tokens were followed.

    Args:
        trajectories: from `read_trajectories`; a word of which a token is not among them counts by the others.
        least: words that stand in the texts fewer times are left out.

    Raises:
        PicoLMError: no word stands so often.
    """
    table = trajectories.tokens
    known = np.array(table["word"].to_pylist(), dtype=object) != ""
    some = trajectories.where(known)
    places = np.stack([some.tokens["document"].to_numpy(), some.tokens["word_number"].to_numpy()])
    _, first, numbers = np.unique(places, axis=1, return_index=True, return_inverse=True)
    numbers = numbers.reshape(-1)
    unigram = _numbers(some.tokens, "unigram")
    sums = [_sum(row.astype(np.float64), numbers) for row in (*some.surprisal, unigram, np.ones(len(numbers)))]
    forms = some.tokens["word"].to_pylist()
    of_word = {"unigram": sums[-2], "tokens": sums[-1], "log_frequency": np.full(len(first), np.nan)}
    words = [forms[place] for place in first]
    return _curves(some.steps, words, np.stack(sums[:-2]), of_word, some.vocab_size, least)


def _curves(
    steps: IntArray,
    forms: Sequence[str],
    surprisal: FloatArray,
    numbers: dict[str, FloatArray],
    vocab_size: int,
    least: int,
) -> LearningCurves:
    """Means over the occurrences of each form, of `surprisal` [S, occurrences] and of numbers [occurrences]."""
    words, places, counts = np.unique(np.array(forms, dtype=object), return_inverse=True, return_counts=True)
    kept = np.flatnonzero(counts >= least)
    if not len(kept):
        raise PicoLMError(f"no word stands in the texts {least:,} times or more")

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray((_sum(values, places) / counts)[kept])

    return LearningCurves(
        steps=steps,
        words=tuple(str(words[place]) for place in kept),
        surprisal=np.stack([mean(row) for row in surprisal]),
        occurrences=counts[kept].astype(np.int64),
        tokens=mean(numbers["tokens"]),
        unigram=mean(numbers["unigram"]),
        log_frequency=mean(numbers["log_frequency"]),
        vocab_size=vocab_size,
    )


def _numbers(table: pa.Table, name: str) -> FloatArray:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _sum(values: FloatArray, groups: npt.NDArray[np.intp]) -> FloatArray:
    return np.bincount(groups, weights=values).astype(np.float64)
