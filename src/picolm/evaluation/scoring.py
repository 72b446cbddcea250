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
from torch import Tensor

from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray, bucketed, padded
from picolm.model.interface import LanguageModel
from picolm.model.size import loss_rows
from picolm.model.transformer import Block, Transformer
from picolm.objective.cross_entropy import linear_cross_entropies
from picolm.text.tokenizer import Tokenizer

FloatArray = npt.NDArray[np.float64]
FirstToken = Literal["bos", "none"]
"""`bos`: the first token is scored behind the token that begins a text; `none`: it stands alone and is not scored."""
Precision = Literal["fp32", "bf16"]
Advance = Callable[[int], None]
"""Told how many more passages have been scored."""

BATCH_TOKENS = {"cpu": 1024}
_BATCH_TOKENS_ELSEWHERE = 32768
_TEXTS_AT_ONCE = 4096
_LOGIT_BYTES = 2**21
"""Of logits that a CPU computes at once: what its cache holds is more than twice as fast as what training computes."""
_LONGEST_FORK = 256
"""Positions of a row with a mask of its own; longer ones would be mostly mask."""


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

    @property
    def logit_rows(self) -> int:
        """Of how many positions logits are computed at once."""
        vocab_size, width = self.model.output_matrix.shape
        if self.device.type == "cpu":
            return max(32, _LOGIT_BYTES // (4 * vocab_size))
        return loss_rows(vocab_size, width, self.device.type)

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
    inputs = padded([passage.tokens[:-1] for passage in passages], filler=0)
    hidden = engine.model(inputs.to(engine.device))
    counts = np.array([passage.n_scored for passage in passages])
    places, targets = scored_places(passages, inputs.shape[1])
    return np.split(_log_p(engine, hidden, places, targets), np.cumsum(counts)[:-1])


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


class Fork(NamedTuple):
    """Two sequences of tokens that may begin alike; all but the first token of each are scored."""

    one: IntArray
    other: IntArray

    @property
    def shared(self) -> int:
        """With how many tokens both begin."""
        shorter = min(len(self.one), len(self.other))
        differ = np.flatnonzero(self.one[:shorter] != self.other[:shorter])
        return int(differ[0]) if len(differ) else shorter

    @property
    def beginning(self) -> int:
        """How many tokens that are read (which the last one of either is not) stand in both."""
        return max(min(self.shared, len(self.one) - 1, len(self.other) - 1), 0)


def score_forks(
    engine: Engine, forks: Sequence[Fork], advance: Advance = lambda count: None
) -> list[tuple[FloatArray, FloatArray]]:
    """Score two sequences at once, each token given those before it.

    Where the model is a plain Transformer and both are short, a row is what both begin with and then either rest (see
    `Branches`): BLiMP has a third fewer positions so. Else they are two passages, and only logits are shared.

    Args:
        engine: of a causal model.
        forks: both sequences within the model's window.
        advance: told how many sequences are done.

    Returns:
        For each fork the log p of the scored tokens of either, in nats.
    """
    model = engine.model
    is_plain = type(model) is Transformer and all(type(block) is Block for block in model.blocks)
    shared = [fork.shared for fork in forks]
    lengths = [len(fork.one) + len(fork.other) - 2 - fork.beginning for fork in forks]
    found: list[tuple[FloatArray, FloatArray]] = [(np.empty(0), np.empty(0))] * len(forks)
    short = [place for place, length in enumerate(lengths) if is_plain and 0 < length <= _LONGEST_FORK]
    with engine.reading():
        for batch in bucketed([lengths[place] for place in short], engine.budget):
            chosen = [short[number] for number in batch]
            for place, both in zip(chosen, _read_forks(engine, [forks[p] for p in chosen]), strict=True):
                found[place] = both
            advance(2 * len(chosen))
    rest = sorted(set(range(len(forks))) - set(short))
    passages = [Passage(forks[place].one, 1) for place in rest]
    passages += [Passage(forks[place].other, max(shared[place], 1)) for place in rest]
    scored = score_passages(engine, passages, advance)
    for number, place in enumerate(rest):
        one = scored[number]
        # Token t is scored at place t - 1.
        found[place] = (one, np.concatenate([one[: max(shared[place] - 1, 0)], scored[len(rest) + number]]))
    return found


def _read_forks(engine: Engine, forks: Sequence[Fork]) -> Iterator[tuple[FloatArray, FloatArray]]:
    rows, branches, places, targets = [], [], [], []
    for fork in forks:
        begin, ones, others = fork.beginning, len(fork.one) - 1, len(fork.other) - 1
        rows.append(np.concatenate([fork.one[:ones], fork.other[begin:others]]))
        branches.append(np.repeat([0, 1, 2], [begin, ones - begin, others - begin]))
        # What is scored of the other one alone: the tokens from where they part, each at the place before it.
        alone = np.arange(max(fork.shared, 1) - 1, others)
        places.append(np.concatenate([np.arange(ones), np.where(alone < begin, alone, alone - begin + ones)]))
        targets.append(np.concatenate([fork.one[1:], fork.other[max(fork.shared, 1) :]]))
    # Filling counts to the last branch, behind all of it.
    inputs, numbers = padded(rows, filler=0), padded(branches, filler=2)
    flat = np.concatenate([row * inputs.shape[1] + own for row, own in enumerate(places)])
    model = engine.model
    assert isinstance(model, Transformer)
    hidden = model(inputs.to(engine.device), branches=numbers)
    log_p = _log_p(engine, hidden, flat, np.concatenate(targets))
    for fork, both in zip(forks, np.split(log_p, np.cumsum([len(own) for own in targets])[:-1]), strict=True):
        one, alone_p = both[: len(fork.one) - 1], both[len(fork.one) - 1 :]
        yield one, np.concatenate([one[: max(fork.shared - 1, 0)], alone_p])


def _log_p(engine: Engine, hidden: Tensor, places: IntArray, targets: IntArray) -> FloatArray:
    """Log-probabilities of targets at places of the flattened hidden states; logits nowhere else."""
    chosen = hidden.flatten(0, 1).index_select(0, torch.from_numpy(places).to(engine.device))
    wanted, matrix = torch.from_numpy(targets).to(engine.device), engine.model.output_matrix
    rows = engine.logit_rows
    slices = zip(torch.split(chosen, rows), torch.split(wanted, rows), strict=True)
    losses = torch.cat([linear_cross_entropies(some, matrix, own) for some, own in slices])
    log_p: FloatArray = -losses.double().cpu().numpy()
    return log_p


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
        """Score pairs: what both texts begin with is read and scored once.

        So texts that are equal have equal scores to the last bit.
        """
        pairs = [Fork(*both) for both in zip(self._encoded(good, places), self._encoded(bad, places), strict=True)]
        found = score_forks(self.engine, pairs, advance)
        return gathered(good, [one for one, _ in found]), gathered(bad, [other for _, other in found])

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
