"""Texts that continue a text: prompts to tokens, tokens to text, stop strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from picolm.model.generation import Sampling, generate_batch
from picolm.model.interface import LanguageModel
from picolm.text.stopping import StopStrings
from picolm.text.tokenizer import Tokenizer

Ending = Literal["document", "stop", "max_tokens"]


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a model has added to a prompt."""

    prompt: str
    text: str
    """What was added, without the prompt and without what ended it."""
    key: int
    """Tells apart the texts of one prompt and one seed."""
    ended: Ending
    """The model ended the document, a stop string appeared, or there were enough tokens."""


def continue_texts(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    keys: Sequence[int] | None = None,
    stop: Sequence[str] = (),
    batch_size: int = 16,
    on_text: Callable[[int, str], None] | None = None,
) -> list[Continuation]:
    """Continue texts; a document separator is put in front of each prompt, as in training.

    Args:
        model: a causal model.
        tokenizer: its tokenizer.
        prompts: the beginnings; an empty one begins a new document.
        max_tokens: tokens to add to each at most.
        sampling: how each token is drawn.
        seed: the same seed gives the same texts.
        keys: one for each prompt; None: 0 for all. A text depends on its prompt, the seed and its key alone.
        stop: texts that end a text where they first appear.
        batch_size: texts that are made at once; it changes nothing but speed and memory.
        on_text: told after each token, with the number of the prompt, what has been added to it so far and will stay.

    Returns:
        One continuation for each prompt.

    Raises:
        PicoLMError: the model is bidirectional, or a stop string is empty.
    """
    keys = [0] * len(prompts) if keys is None else keys
    watch = _Watch(tokenizer, StopStrings(stop), on_text)
    added: list[list[int]] = []
    for first in range(0, len(prompts), batch_size):
        batch = prompts[first : first + batch_size]
        added += generate_batch(
            model,
            [[tokenizer.separator_id, *tokenizer.encode(prompt).tolist()] for prompt in batch],
            max_tokens=max_tokens,
            sampling=sampling,
            seed=seed,
            stop=tokenizer.separator_id,
            keys=keys[first : first + batch_size],
            vocab_size=tokenizer.vocab_size,
            ended=watch.from_number(first) if stop or on_text else None,
        )
    continuations = []
    for number, (prompt, key, ids) in enumerate(zip(prompts, keys, added, strict=True)):
        cut = watch.cut.get(number)
        ended: Ending = "stop" if cut is not None else "max_tokens" if len(ids) == max_tokens else "document"
        continuations.append(Continuation(prompt, tokenizer.decode(ids) if cut is None else cut, key, ended))
    return continuations


class _Watch:
    """Reads along while texts grow: tells of what will stay, and finds where one must be cut."""

    def __init__(self, tokenizer: Tokenizer, stops: StopStrings, on_text: Callable[[int, str], None] | None) -> None:
        self._tokenizer, self._stops, self._on_text = tokenizer, stops, on_text
        self.cut: dict[int, str] = {}

    def from_number(self, first: int) -> Callable[[int, Sequence[int]], bool]:
        """Return what is asked whether a text is complete, for a batch that begins at this number."""
        return lambda row, ids: self._is_complete(first + row, ids)

    def _is_complete(self, number: int, ids: Sequence[int]) -> bool:
        # Whole, not token by token: what a token reads as can depend on those beside it.
        text = self._tokenizer.decode(ids)
        before = self._stops.cut(text)
        if before is not None:
            self.cut[number] = before
            return True
        if self._on_text is not None:
            self._on_text(number, self._stops.settled(text))
        return False
