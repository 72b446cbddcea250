"""The one scorer under every task: from texts to the sum of their log-probabilities.

A causal model reads a sequence of tokens, and all of them from `first` on are scored, each given all before it. A whole
sentence behind its separator, a completion behind its prefix, a window of a long document: each is such a `Passage`.
Passages of similar length are read together and filled up at their ends, where causality hides the filling, so no mask
is needed. Logits are computed at scored positions only, chunk by chunk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray, bucketed, padded
from picolm.evaluation.likelihood import FloatArray, Likelihood, likelihood
from picolm.evaluation.trees import LONGEST_ROW, Passage, Tree, common_beginning, grow
from picolm.model.interface import LanguageModel
from picolm.model.size import loss_rows
from picolm.model.transformer import Block, Transformer
from picolm.text.tokenizer import Tokenizer

FirstToken = Literal["bos", "none"]
"""`bos`: the first token is scored behind the token that begins a text; `none`: it stands alone and is not scored."""
Precision = Literal["fp32", "bf16"]
Advance = Callable[[int], None]
"""Told how many more passages have been scored."""

BATCH_TOKENS = {"cpu": 1536}
_BATCH_TOKENS_ELSEWHERE = 32768
_TEXTS_AT_ONCE = 4096
_LOGIT_BYTES = 2**22
"""Of logits that a CPU computes at once: what its cache holds is more than twice as fast as what training computes."""
_WORTHWHILE = 0.9
"""Share of positions that is left when passages are read as trees; above it, their masks cost more than they spare."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What scoring texts gives, one entry for each.

    Attributes:
        log_p: sum of log-probabilities in nats, float64 [N].
        tokens: how many were scored, int64 [N].
        bytes: UTF-8 bytes of the text, int64 [N].
        per_token: the log-probabilities that were summed, float64 [tokens] each.
    """

    log_p: FloatArray
    tokens: IntArray
    bytes: IntArray
    per_token: list[FloatArray]

    def mean(self) -> FloatArray:
        """Nats per scored token, [N]; 0 where none was scored."""
        return self.log_p / np.maximum(self.tokens, 1)


@dataclass(frozen=True, slots=True)
class Engine:
    """A model ready to be asked: where it computes, in which precision, how much at once.

    Attributes:
        model: in evaluation mode, on `device`.
        device: where it is.
        precision: `bf16` runs matrix products in bfloat16; the softmax is in float32 at least, sums in float64.
        batch_tokens: positions that are read at once; None: what suits the device. It changes nothing but speed.
    """

    model: LanguageModel
    device: torch.device
    precision: Precision = "fp32"
    batch_tokens: int | None = None

    @property
    def budget(self) -> int:
        """Positions that are read at once."""
        return self.batch_tokens or BATCH_TOKENS.get(self.device.type, _BATCH_TOKENS_ELSEWHERE)

    @property
    def window(self) -> int:
        """Positions that the model was made for."""
        return self.model.config.max_length

    @property
    def logit_rows(self) -> int:
        """Of how many positions logits are computed at once."""
        vocab_size, width = self.model.output_matrix.shape
        if self.device.type == "cpu":
            return max(32, _LOGIT_BYTES // (4 * vocab_size))
        return loss_rows(vocab_size, width, self.device.type)

    def likelihood(
        self, hidden: Tensor, places: IntArray, targets: IntArray, *, wants_largest: bool = False
    ) -> Likelihood:
        """Score tokens at places of the flattened hidden states; logits nowhere else (see `likelihood`)."""
        matrix = self.model.output_matrix
        dtype = torch.bfloat16 if self.precision == "bf16" else matrix.dtype
        return likelihood(
            hidden, matrix, places, targets, rows=self.logit_rows, dtype=dtype, wants_largest=wants_largest
        )

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Evaluation mode and no gradients; the model is left in the mode in which it was."""
        modes = [(part, part.training) for part in self.model.modules()]
        self.model.eval()
        try:
            with (
                torch.inference_mode(),
                torch.compiler.set_stance("force_eager"),
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"),
            ):
                yield
        finally:
            for part, mode in modes:
                part.training = mode


def score_passages(
    engine: Engine, passages: Sequence[Passage], advance: Advance = lambda count: None
) -> list[FloatArray]:
    """Score tokens given those before them.

    Where many passages begin alike and the model is a plain Transformer, what they share is read and scored once
    (BLiMP has 39 positions in a hundred fewer so). Equal passages have equal scores to the last bit.

    Args:
        engine: of a causal model.
        passages: each within the model's window: at most `window` + 1 tokens.
        advance: told of each batch.

    Returns:
        For each passage log p of its scored tokens in nats, float64 [n_scored].
    """
    assert all(passage.first >= 1 and len(passage.tokens) <= engine.window + 1 for passage in passages)
    distinct: dict[tuple[bytes, int], int] = {}
    numbers = [distinct.setdefault((one.tokens.tobytes(), one.first), place) for place, one in enumerate(passages)]
    counts = np.bincount(numbers, minlength=len(passages)) if numbers else np.empty(0, dtype=np.int64)
    found: dict[int, FloatArray] = {place: np.empty(0) for place in set(numbers) if not passages[place].n_scored}
    advance(int(counts[list(found)].sum()))
    left = [place for place in distinct.values() if place not in found]
    with engine.reading():
        for scored in _scored(engine, passages, left):
            found |= scored
            advance(int(counts[list(scored)].sum()))
    return [found[number] for number in numbers]


def _scored(engine: Engine, passages: Sequence[Passage], numbers: Sequence[int]) -> Iterator[dict[int, FloatArray]]:
    trees = _trees(engine, passages, numbers)
    for batch in bucketed([len(tree.tokens) for tree in trees], engine.budget):
        yield _read_trees(engine, [trees[place] for place in batch])
    grown = {number for tree in trees for number, _ in tree.members}
    rest = [number for number in numbers if number not in grown]
    for batch in bucketed([len(passages[number].tokens) for number in rest], engine.budget):
        yield _read_rows(engine, {rest[place]: passages[rest[place]] for place in batch})


def _trees(engine: Engine, passages: Sequence[Passage], numbers: Sequence[int]) -> list[Tree]:
    """The short passages as trees; none where that spares little."""
    model = engine.model
    if type(model) is not Transformer or any(type(block) is not Block for block in model.blocks):
        return []
    short = [number for number in numbers if len(passages[number].tokens) - 1 <= LONGEST_ROW]
    trees = list(grow(passages, short))
    alone = sum(len(passages[number].tokens) - 1 for number in short)
    return trees if sum(len(tree.tokens) for tree in trees) <= _WORTHWHILE * alone else []


def _read_trees(engine: Engine, trees: Sequence[Tree]) -> dict[int, FloatArray]:
    # Filling stands alone: it has no parent.
    inputs, parents = padded([tree.tokens for tree in trees], filler=0), padded([tree.parents for tree in trees], -1)
    model = engine.model
    assert isinstance(model, Transformer)
    hidden = model(inputs.to(engine.device), parents=parents)
    places = np.concatenate([row * inputs.shape[1] + tree.places for row, tree in enumerate(trees)])
    log_p = engine.likelihood(hidden, places, np.concatenate([tree.targets for tree in trees])).log_p
    parts = np.split(log_p, np.cumsum([len(tree.targets) for tree in trees])[:-1])
    return {number: part[own] for tree, part in zip(trees, parts, strict=True) for number, own in tree.members}


def _read_rows(engine: Engine, passages: Mapping[int, Passage]) -> dict[int, FloatArray]:
    # The last token is only predicted, so it need not be read.
    inputs = padded([passage.tokens[:-1] for passage in passages.values()], filler=0)
    hidden = engine.model(inputs.to(engine.device))
    counts = np.array([passage.n_scored for passage in passages.values()])
    places, targets = scored_places(list(passages.values()), inputs.shape[1])
    log_p = engine.likelihood(hidden, places, targets).log_p
    return dict(zip(passages, np.split(log_p, np.cumsum(counts)[:-1]), strict=True))


def scored_places(passages: Sequence[Passage], width: int) -> tuple[IntArray, IntArray]:
    """Where scored tokens are predicted in hidden states [B, width, D] flattened to [B * width, D], and which they are.

    Args:
        passages: B of them, in the order of the rows.
        width: of the rows that were read.

    Returns:
        Places and tokens, passage by passage, int64 [N] each.
    """
    places = [
        row * width + np.arange(passage.first - 1, len(passage.tokens) - 1) for row, passage in enumerate(passages)
    ]
    return np.concatenate(places), np.concatenate([passage.tokens[passage.first :] for passage in passages])


class Scorer(ABC):
    """Texts to log-probabilities.

    Attributes:
        is_causal: whether each token is scored given those before it alone.
    """

    is_causal: bool

    @abstractmethod
    def score(self, texts: Sequence[str], places: Sequence[str] = (), advance: Advance = lambda count: None) -> Scores:
        """Score texts.

        Args:
            texts: in any order and number; neither changes any score beyond rounding.
            places: where each stands, for errors.
            advance: told how many more are done.

        Raises:
            PicoLMError: a text is longer than the model's window.
        """

    def score_pairs(
        self,
        good: Sequence[str],
        bad: Sequence[str],
        places: Sequence[str] = (),
        advance: Advance = lambda count: None,
        *,
        apart: bool = False,
    ) -> tuple[Scores, Scores]:
        """Score two lists of texts that belong together one by one.

        Args:
            good: the one list.
            bad: the other.
            places: where each pair stands, for errors.
            advance: told how many more texts are done.
            apart: whether only the difference of sums is wanted: what counts alike in both may be left out.
        """
        return self.score(good, places, advance), self.score(bad, places, advance)


class CausalScorer(Scorer):
    """Sum of log p(x_t | x_<t).

    Args:
        engine: of a causal model.
        tokenizer: its tokenizer.
        first_token: whether the first token is scored, behind `bos`.
        bos: the token that begins a text; None: the tokenizer's separator.
    """

    is_causal = True

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, *, first_token: FirstToken = "bos", bos: int | None = None
    ) -> None:
        self.engine, self.tokenizer = engine, tokenizer
        self.prefix = [] if first_token == "none" else [tokenizer.separator_id if bos is None else bos]

    def score(self, texts: Sequence[str], places: Sequence[str] = (), advance: Advance = lambda count: None) -> Scores:
        """Score texts (see `Scorer.score`)."""
        passages = [Passage(tokens, 1) for tokens in self._encoded(texts, places)]
        return gathered(texts, score_passages(self.engine, passages, advance))

    def score_pairs(
        self,
        good: Sequence[str],
        bad: Sequence[str],
        places: Sequence[str] = (),
        advance: Advance = lambda count: None,
        *,
        apart: bool = False,
    ) -> tuple[Scores, Scores]:
        """Score pairs (see `Scorer.score_pairs`); texts that are equal have equal scores to the last bit."""
        passages: list[Passage] = []
        for one, other in zip(self._encoded(good, places), self._encoded(bad, places), strict=True):
            first = max(common_beginning(one, other), 1) if apart else 1
            passages += (Passage(one, first), Passage(other, first))
        found = score_passages(self.engine, passages, advance)
        return gathered(good, found[::2]), gathered(bad, found[1::2])

    def _encoded(self, texts: Sequence[str], places: Sequence[str]) -> list[IntArray]:
        encoded = encode(self.tokenizer, texts)
        refuse_long(encoded, places, self.engine.window + 1 - len(self.prefix))
        prefix = np.array(self.prefix, dtype=np.int64)
        return [np.concatenate([prefix, ids]) for ids in encoded]


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[IntArray]:
    """Return the ids of texts, a slice at a time, so that memory does not hold them all twice."""
    found: list[IntArray] = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        found += tokenizer.encode_batch(texts[start : start + _TEXTS_AT_ONCE])
    return found


def refuse_long(encoded: Sequence[IntArray], places: Sequence[str], most: int) -> None:
    """Raise for the first text that has more tokens than the window has room for."""
    for number, ids in enumerate(encoded):
        if len(ids) > most:
            place = places[number] if places else f"text {number + 1}"
            raise PicoLMError(
                f"{place} has {len(ids):,} tokens, but the model's window has room for {most:,}: leave it out"
            )


def gathered(texts: Sequence[str], per_token: list[FloatArray]) -> Scores:
    """The scores of texts from those of their tokens."""
    return Scores(
        # Pairwise over the tokens of one text, so it depends on nothing but them.
        log_p=np.array([float(log_p.sum()) for log_p in per_token], dtype=np.float64),
        tokens=np.array([len(log_p) for log_p in per_token], dtype=np.int64),
        bytes=np.array([len(text.encode()) for text in texts], dtype=np.int64),
        per_token=per_token,
    )
