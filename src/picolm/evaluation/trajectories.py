"""Reading what the task `tokens` kept: the surprisal of each token of a probe text over the checkpoints of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from picolm.errors import PicoLMError, nearest
from picolm.evaluation.batching import IntArray
from picolm.evaluation.correlation import pearson
from picolm.evaluation.likelihood import FloatArray
from picolm.evaluation.tokens import TOKENS, TRAJECTORY, unpacked
from picolm.runs.evaluations import FOLDER, Kept, kept


@dataclass(frozen=True, slots=True)
class TokenTrajectories:
    """Tokens over checkpoints.

    Attributes:
        steps: of the checkpoints, ascending, int64 [S].
        surprisal: nats, to 0.00025 below 32, float32 [S, N].
        right: whether no other token was likelier, bool [S, N].
        tokens: what they are, N rows: document (a number), id, domain, position, token, string, start and stop (in
            characters), start_byte and stop_byte, word_number, word (its form), and unigram and bigram, their
            surprisal by counts of the training tokens, where those were there.
        vocab_size: of the tokenizer.
    """

    steps: IntArray
    surprisal: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    tokens: pa.Table
    vocab_size: int

    def where(self, chosen: npt.NDArray[np.bool_]) -> TokenTrajectories:
        """The tokens of which `chosen` [N] is true."""
        some = self.tokens.filter(pa.array(chosen))
        return TokenTrajectories(self.steps, self.surprisal[:, chosen], self.right[:, chosen], some, self.vocab_size)


def read_trajectories(place: Path | str, label: str | None = None) -> TokenTrajectories:
    """Read the trajectories of a run.

    Args:
        place: the run, or its `eval/`, or where else `picolm evaluate` wrote to.
        label: how the task is named; None: the only one that is there.

    Raises:
        PicoLMError: there are none, or several and no label chooses between them.
    """
    found = choose(place, "tokens", label)
    parts = [one.table(TRAJECTORY) for one in found]
    return TokenTrajectories(
        steps=steps_of(found),
        surprisal=np.stack([unpacked(part["surprisal"].to_numpy()) for part in parts]),
        right=np.stack([part["right"].to_numpy() for part in parts]),
        tokens=found[0].table(TOKENS),
        vocab_size=int(found[0].part.identity["vocab_size"]),
    )


def choose(place: Path | str, task: str, label: str | None) -> list[Kept]:
    """What one task kept at each checkpoint of a run, by step.

    Args:
        place: the run, or its `eval/`.
        task: the kind of task.
        label: how it is named, or the beginning of the hash in its files' names; None: the only one that is there.

    Raises:
        PicoLMError: there is none, or several and no label chooses between them.
    """
    folder = Path(place) / FOLDER if (Path(place) / FOLDER).is_dir() else Path(place)
    found = kept(folder, task)
    if not found:
        raise PicoLMError(f"{folder} has no evaluation by the task {task}: ask with picolm evaluate --task {task}")
    labels = {one.part.hash: one.label for one in found}
    fitting = [hash for hash, own in labels.items() if label is None or own == label or hash.startswith(label)]
    if not fitting:
        raise PicoLMError(f"{folder} has no {task} named '{label}'{nearest(str(label), labels.values())}")
    if len(fitting) > 1:
        listed = ", ".join(f"'{labels[hash]}' ({hash[:16]})" for hash in fitting)
        raise PicoLMError(f"{folder} has several evaluations by {task}: {listed}; choose by label or hash")
    return [one for one in found if one.part.hash == fitting[0]]


def steps_of(found: list[Kept]) -> IntArray:
    """The steps of what was kept, int64 [S].

    Raises:
        PicoLMError: a model's step is not known, so that it has no place on a curve.
    """
    steps = [one.part.step for one in found]
    if None in steps:
        raise PicoLMError(f"{found[0].part.path} is of a model whose step is not known: it is no point of a curve")
    return np.array(steps, dtype=np.int64)


class Distance(NamedTuple):
    """How far a model's surprisal of the same tokens is from that of an n-gram, checkpoint by checkpoint."""

    correlation: FloatArray
    """Pearson's r over tokens [S]; NaN where all tokens are alike to the model."""
    difference: FloatArray
    """Mean of the absolute difference in nats [S]."""


def ngram_distances(trajectories: TokenTrajectories) -> dict[str, Distance]:
    """How far the model is from the unigram and the bigram of its training tokens, on the tokens that are given.

    The divergence of whole distributions, KL(n-gram || model), stands in the rows of the task.

    Raises:
        PicoLMError: the training tokens were not there when the task was asked.
    """
    if "unigram" not in trajectories.tokens.column_names:
        raise PicoLMError("there is no n-gram to compare with: the run's training tokens were not there")
    found = {}
    for name in ("unigram", "bigram"):
        reference = trajectories.tokens[name].to_numpy().astype(np.float64)
        rows = [row.astype(np.float64) for row in trajectories.surprisal]
        values = [pearson(row, reference) for row in rows]
        found[name] = Distance(
            np.array([np.nan if value is None else value for value in values]),
            np.array([np.abs(row - reference).mean() for row in rows]),
        )
    return found
