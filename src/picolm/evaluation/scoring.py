"""The one scorer under every task: from texts to the sum of their log-probabilities.

A causal model reads a sequence of tokens, and all of them from `first` on are scored, each given all before it. A whole
sentence behind its separator, a completion behind its prefix, a window of a long document: each is such a `Passage`.
Passages of similar length are read together and filled up at their ends, where causality hides the filling, so no mask
is needed. Logits are computed at scored positions only, chunk by chunk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray, bucketed, padded
from picolm.model.interface import LanguageModel
from picolm.objective.cross_entropy import linear_cross_entropies
from picolm.text.tokenizer import Tokenizer

FloatArray = npt.NDArray[np.float64]
FirstToken = Literal["bos", "none"]
"""`bos`: the first token is scored behind the token that begins a text; `none`: it stands alone and is not scored."""
Precision = Literal["fp32", "bf16"]
Advance = Callable[[int], None]
"""Told how many more passages have been scored."""

BATCH_TOKENS = {"cpu": 2048}
_BATCH_TOKENS_ELSEWHERE = 32768
_TEXTS_AT_ONCE = 4096


class Passage(NamedTuple):
    """Tokens that a causal model reads; those from `first` on, which is 1 at least, are scored."""

    tokens: IntArray
    first: int

    @property
    def n_scored(self) -> int:
        """How many tokens are scored."""
        return max(len(self.tokens) - self.first, 0)


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

    Args:
        engine: of a causal model.
        passages: each within the model's window: at most `window` + 1 tokens.
        advance: told of each batch.

    Returns:
        For each passage log p of its scored tokens in nats, float64 [n_scored].
    """
    assert all(passage.first >= 1 and len(passage.tokens) <= engine.window + 1 for passage in passages)
    found: list[FloatArray] = [np.empty(0)] * len(passages)
    empty = sum(not passage.n_scored for passage in passages)
    places = [place for place, passage in enumerate(passages) if passage.n_scored]
    advance(empty)
    with engine.reading():
        for batch in bucketed([len(passages[place].tokens) for place in places], engine.budget):
            chosen = [places[number] for number in batch]
            for place, log_p in zip(chosen, _read(engine, [passages[p] for p in chosen]), strict=True):
                found[place] = log_p
            advance(len(chosen))
    return found


def _read(engine: Engine, passages: Sequence[Passage]) -> list[FloatArray]:
    # The last token is only predicted, so it need not be read.
    inputs = padded([passage.tokens[:-1] for passage in passages], filler=0).to(engine.device)
    hidden = engine.model(inputs)
    counts = np.array([passage.n_scored for passage in passages])
    rows = np.repeat(np.arange(len(passages)), counts)
    columns = np.concatenate([np.arange(passage.first - 1, len(passage.tokens) - 1) for passage in passages])
    flat = torch.from_numpy(rows * inputs.shape[1] + columns).to(engine.device)
    targets = torch.from_numpy(np.concatenate([passage.tokens[passage.first :] for passage in passages]))
    losses = linear_cross_entropies(
        hidden.flatten(0, 1).index_select(0, flat), engine.model.output_matrix, targets.to(engine.device)
    )
    log_p: FloatArray = -losses.double().cpu().numpy()
    return np.split(log_p, np.cumsum(counts)[:-1])


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
    ) -> tuple[Scores, Scores]:
        """Score two lists of texts that belong together one by one."""
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
    ) -> tuple[Scores, Scores]:
        """Score pairs: log-probabilities of the tokens with which both texts begin are computed once.

        So texts that are equal have equal scores to the last bit. (The model does read the beginning twice: in BLiMP
        that is a fifth of all positions, less than a cache for it would cost.)
        """
        first, second = self._encoded(good, places), self._encoded(bad, places)
        shared = [_common(one, other) for one, other in zip(first, second, strict=True)]
        passages = [Passage(tokens, 1) for tokens in first]
        passages += [Passage(tokens, max(count, 1)) for tokens, count in zip(second, shared, strict=True)]
        found = score_passages(self.engine, passages, advance)
        of_good, rests = found[: len(good)], found[len(good) :]
        # Token t is scored at place t - 1.
        of_bad = [
            np.concatenate([scored[: max(count - 1, 0)], rest])
            for scored, rest, count in zip(of_good, rests, shared, strict=True)
        ]
        return gathered(good, of_good), gathered(bad, of_bad)

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


def _common(one: IntArray, other: IntArray) -> int:
    """With how many tokens both begin."""
    shorter = min(len(one), len(other))
    differ = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(differ[0]) if len(differ) else shorter


def gathered(texts: Sequence[str], per_token: list[FloatArray]) -> Scores:
    """The scores of texts from those of their tokens."""
    return Scores(
        # Pairwise over the tokens of one text, so it depends on nothing but them.
        log_p=np.array([float(log_p.sum()) for log_p in per_token], dtype=np.float64),
        tokens=np.array([len(log_p) for log_p in per_token], dtype=np.int64),
        bytes=np.array([len(text.encode()) for text in texts], dtype=np.int64),
        per_token=per_token,
    )
