"""Documents -> token ids, in this process or in several, always in the order in which they came."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import numpy as np

from picolm.errors import PicoLMError
from picolm.text.tokenizer import Tokenizer

Ids = np.ndarray[Any, Any]
_Item = TypeVar("_Item")

_CHUNK_CHARACTERS = 2**20
_CHUNKS_AHEAD_PER_WORKER = 2

_worker_tokenizer: Tokenizer


def encode_all(
    items: Iterable[_Item], text_of: Callable[[_Item], str], tokenizer: Tokenizer, workers: int
) -> Iterator[tuple[_Item, Ids]]:
    """Encode the texts of items; the result does not depend on the number of workers.

    Args:
        items: read as the results are taken, at most a few chunks of about 1 MB ahead.
        text_of: where an item's text is.
        tokenizer: for all of them.
        workers: processes; 1: this one.

    Yields:
        Each item with its ids, in order.

    Raises:
        PicoLMError: a process died.
    """
    chunks = _chunks(items, text_of)
    if workers == 1:
        for chunk in chunks:
            yield from zip(chunk, tokenizer.encode_batch([text_of(item) for item in chunk]), strict=True)
        return
    pool = ProcessPoolExecutor(
        workers,
        # A forked process would inherit the locks of threads that it does not have (PyTorch's, the tokenizer's).
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(tokenizer.to_json(), tokenizer.separator),
    )
    try:
        pending: deque[tuple[list[_Item], Future[list[Ids]]]] = deque()
        for chunk in chunks:
            pending.append((chunk, pool.submit(_encode, [text_of(item) for item in chunk])))
            if len(pending) > _CHUNKS_AHEAD_PER_WORKER * workers:
                yield from _finished(pending)
        while pending:
            yield from _finished(pending)
    except BrokenProcessPool as error:
        raise PicoLMError(
            "a process that tokenizes died (out of memory, or killed): try data.preparation_workers=1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(pending: deque[tuple[list[_Item], Future[list[Ids]]]]) -> Iterator[tuple[_Item, Ids]]:
    chunk, future = pending.popleft()
    yield from zip(chunk, future.result(), strict=True)


def _chunks(items: Iterable[_Item], text_of: Callable[[_Item], str]) -> Iterator[list[_Item]]:
    chunk: list[_Item] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += len(text_of(item))
        if size >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _start_worker(tokenizer_json: str, separator: str) -> None:
    global _worker_tokenizer
    # The processes are the parallelism: threads within them would only get in each other's way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker_tokenizer = Tokenizer.from_json(tokenizer_json, separator)


def _encode(texts: Sequence[str]) -> list[Ids]:
    return [ids.astype(np.uint32) for ids in _worker_tokenizer.encode_batch(texts)]
