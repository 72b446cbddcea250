"""A text that is longer than a model's window, as windows that overlap: each token is scored exactly once."""

from __future__ import annotations

from collections.abc import Iterator

from picolm.errors import PicoLMError
from picolm.evaluation.batching import IntArray
from picolm.evaluation.trees import Passage


def windows(tokens: IntArray, window: int, stride: int) -> Iterator[Passage]:
    """Part a text into passages.

    The first passage scores all that a window predicts. Each further one moves on by `stride` tokens, which are those
    that it scores; the last one ends with the text and moves less. So every token but the first is scored once, given
    all the text before it or at least `window - stride + 1` tokens of it.

    Args:
        tokens: the text, with the token that begins it.
        window: positions that the model reads at once.
        stride: from 1 to `window`.

    Yields:
        Passages of at most `window` + 1 tokens, in order.
    """
    assert 1 <= stride <= window
    end = min(window, len(tokens) - 1)
    if end < 1:
        return
    yield Passage(tokens[: end + 1], 1)
    while end < len(tokens) - 1:
        scored, end = end + 1, min(end + stride, len(tokens) - 1)
        start = end - window
        yield Passage(tokens[start : end + 1], scored - start)


def reach(window: int, stride: int, largest: int) -> tuple[int, int]:
    """Window and stride of what a task was told.

    Args:
        window: positions that are read at once; 0: the model's own.
        stride: by how many tokens windows move on; 0: half a window.
        largest: the model's own window.

    Raises:
        PicoLMError: the window is larger than the model's, or the stride than the window.
    """
    chosen = window or largest
    if chosen > largest:
        raise PicoLMError(f"window={chosen} is larger than the model's own, {largest}")
    if stride > chosen:
        raise PicoLMError(f"stride={stride} is larger than the window of {chosen} and would skip tokens")
    return chosen, stride or max(1, chosen // 2)
