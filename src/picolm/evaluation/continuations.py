"""A context and what continues it, as tokens of which the continuation's are scored: as lm-evaluation-harness does it.

The tokens of the continuation are those by which the tokens of both texts together are more than those of the context.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from picolm.errors import PicoLMError
from picolm.evaluation.scoring import encode
from picolm.evaluation.trees import Passage
from picolm.text.tokenizer import Tokenizer

Begin = Literal["empty", "always"]
"""Where the token that begins a text stands: before a context that is empty, or before every context."""


def encode_continuations(
    tokenizer: Tokenizer,
    contexts: Sequence[str],
    continuations: Sequence[str],
    *,
    bos: int,
    begin: Begin,
    places: Sequence[str],
) -> list[Passage]:
    """Return passages of whatever length, of which the continuations are scored.

    White space at the end of a context belongs to its continuation: tokens begin with their space.

    Args:
        tokenizer: of the model.
        contexts: N of them; one that is empty becomes `bos`.
        continuations: of each context.
        bos: the token that begins a text.
        begin: before which contexts it stands.
        places: where each stands, for errors.

    Raises:
        PicoLMError: a continuation is no token of its own.
    """
    pairs = [_split(*both) for both in zip(contexts, continuations, strict=True)]
    texts = list(dict.fromkeys(text for context, rest in pairs for text in (context, context + rest)))
    ids = dict(zip(texts, encode(tokenizer, texts), strict=True))
    passages = []
    for (context, rest), place in zip(pairs, places, strict=True):
        before, own = ids[context], ids[context + rest][len(ids[context]) :]
        if not len(own):
            raise PicoLMError(f"{place}: '{rest}' has no token of its own behind what stands before it")
        first = [bos] if begin == "always" or not len(before) else []
        begun = np.concatenate([np.array(first, dtype=np.int64), before])
        passages.append(Passage(np.concatenate([begun, own]), len(begun)))
    return passages


def _split(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def cut(passage: Passage, window: int, place: str = "a request") -> Passage:
    """Cut a passage from the left, so that the model's window holds it.

    Raises:
        PicoLMError: what is scored alone has no room in the window.
    """
    too_many = len(passage.tokens) - (window + 1)
    if too_many <= 0:
        return passage
    if passage.n_scored > window:
        raise PicoLMError(
            f"{place} scores {passage.n_scored:,} tokens, but the model's window has room for {window:,}: leave it out"
        )
    return Passage(passage.tokens[too_many:], passage.first - too_many)
