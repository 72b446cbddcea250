"""The bridge to lm-evaluation-harness: a model of PicoLM's, asked by the harness's own tasks.

Only here is `lm_eval` imported, so this module is loaded where the harness is used and nowhere else.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs

from picolm.errors import PicoLMError, to_standard_error
from picolm.evaluation.continuations import cut
from picolm.evaluation.greedy import score_written
from picolm.evaluation.progress import Meter
from picolm.evaluation.scoring import Engine, score_passages
from picolm.evaluation.trees import Passage
from picolm.evaluation.windows import windows
from picolm.model.generation import Sampling, generate_batch
from picolm.text.stopping import StopStrings
from picolm.text.tokenizer import Tokenizer

_TEXTS_AT_ONCE = 16
_MAX_TOKENS = 256
"""Tokens to generate where a task does not say, as for the harness's own models."""


class HarnessModel(TemplateLM):  # type: ignore[misc]  # lm_eval has no types
    """A causal model as the harness sees it; contexts and continuations become tokens by the harness's own code.

    Args:
        engine: the model.
        tokenizer: its tokenizer.
        bos: what an empty context and a rolling text begin with.
        seed: of what is sampled.
        meter: told of requests.
    """

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, *, bos: int, seed: int = 0, meter: Meter | None = None
    ) -> None:
        super().__init__()
        self.engine, self.pico_tokenizer, self.seed = engine, tokenizer, seed
        self._bos, self._meter = bos, meter or Meter()

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.pico_tokenizer.separator_id

    @property
    def prefix_token_id(self) -> int:
        """The token that begins a text."""
        return self._bos

    @property
    def max_length(self) -> int:
        """Positions that the model was made for."""
        return self.engine.window

    @property
    def tokenizer_name(self) -> str:
        """Tells apart what the harness caches."""
        return f"picolm-{self.pico_tokenizer.fingerprint[:16]}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **options: Any) -> list[int]:
        """Ids of a text; no token is ever added."""
        ids: list[int] = self.pico_tokenizer.encode(string).tolist()
        return ids

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **options: Any
    ) -> list[tuple[float, bool]]:
        whole = [self._passage(*request) for request in requests]
        passages = [cut(passage, self.max_length) for passage in whole]
        if n_cut := sum(len(one.tokens) < len(all_.tokens) for one, all_ in zip(passages, whole, strict=True)):
            to_standard_error(
                f"{n_cut:,} of {len(whole):,} requests are longer than the window of {self.max_length:,} tokens "
                "and lose their beginnings"
            )
        self._meter.expect(len(passages))
        written = score_written(self.engine, passages, self._meter.advance)
        found = [(float(one.log_p.sum()), one.is_greedy) for one in written]
        for (said, _, _), answer in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", said, answer)
        return found

    def _passage(self, said: Any, context: list[int], continuation: list[int]) -> Passage:
        if not continuation:
            raise PicoLMError(f"the continuation in {said!r} has no token of its own behind its context")
        # The harness leaves nothing of a context that is only white space.
        begun = context or [self._bos]
        return Passage(np.array([*begun, *continuation], dtype=np.int64), len(begun))

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Nats of whole texts: windows that follow each other, the last one moved back so that it is full."""
        texts = [request.args[0] for request in requests]
        ids = [np.array([self._bos, *self.tok_encode(text)], dtype=np.int64) for text in texts]
        parts = [list(windows(own, self.max_length, self.max_length)) for own in ids]
        passages = [passage for part in parts for passage in part]
        self._meter.expect(len(passages))
        scored = iter(score_passages(self.engine, passages, self._meter.advance))
        sums = [float(sum(next(scored).sum() for _ in part)) for part in parts]
        for text, nats in zip(texts, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), nats)
        return sums

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continue texts until a stop string appears, which is cut off, or the model ends.

        Equal contexts with equal settings are different draws where tokens are sampled.
        """
        self._meter.expect(len(requests))
        found = [""] * len(requests)
        alike: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            alike.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(place)
        for places in alike.values():
            contexts = [str(requests[place].args[0]) for place in places]
            settings = requests[places[0]].args[1]
            for place, context, text in zip(places, contexts, self._continued(contexts, settings), strict=True):
                found[place] = text
                self.cache_hook.add_partial("generate_until", (context, settings), text)
        return found

    def _continued(self, contexts: Sequence[str], settings: dict[str, Any]) -> list[str]:
        asked = normalize_gen_kwargs(settings, _MAX_TOKENS)
        n_tokens = asked["max_gen_toks"]
        if n_tokens >= self.max_length:
            raise PicoLMError(
                f"the task asks for {n_tokens:,} tokens, but the model's window has {self.max_length:,}: "
                "give --gen_kwargs max_gen_toks=..."
            )
        temperature = asked.get("temperature", 1.0) if asked["do_sample"] else 0.0
        sampling = Sampling(temperature, asked.get("top_k", 0), asked.get("top_p", 1.0))
        stops = StopStrings([stop for stop in asked["until"] if stop])
        begun = [self._begun(context, n_tokens) for context in contexts]
        keys = _occurrences(contexts)
        texts = []
        for first in range(0, len(contexts), _TEXTS_AT_ONCE):
            batch = slice(first, first + _TEXTS_AT_ONCE)
            with self.engine.reading():
                added = generate_batch(
                    self.engine.model,
                    begun[batch],
                    max_tokens=n_tokens,
                    sampling=sampling,
                    seed=self.seed,
                    stop=self.eot_token_id,
                    keys=keys[batch],
                    vocab_size=self.pico_tokenizer.vocab_size,
                    ended=lambda _, ids: stops.cut(self.pico_tokenizer.decode(ids)) is not None,
                )
            decoded = [self.pico_tokenizer.decode(ids) for ids in added]
            texts += [text if (kept := stops.cut(text)) is None else kept for text in decoded]
            self._meter.advance(len(added))
        return texts

    def _begun(self, context: str, n_tokens: int) -> list[int]:
        """What is continued: the end of the context that leaves room for what is added."""
        return (self.tok_encode(context) or [self._bos])[n_tokens - self.max_length :]


def _occurrences(texts: Sequence[str]) -> list[int]:
    """How often each text stands before itself."""
    seen: Counter[str] = Counter()
    found = []
    for text in texts:
        found.append(seen[text])
        seen[text] += 1
    return found
