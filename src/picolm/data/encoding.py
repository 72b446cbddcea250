"""Documents -> token ids, in this process or in several, always in the order in which they came."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from picolm.data.spool import Chunk, Spool
from picolm.errors import PicoLMError
from picolm.text.tokenizer import Tokenizer

Ids = np.ndarray[Any, Any]

_CHUNK_BYTES = 2**20
_CHUNKS_AHEAD_PER_WORKER = 2

_worker_tokenizer: Tokenizer


def encode_all(spool: Spool, tokenizer: Tokenizer, workers: int) -> Iterator[Ids]:
    """Encode all texts of a spool; the result does not depend on the number of workers.

    Args:
        spool: read by the workers themselves, in chunks of about 1 MB.
        tokenizer: for all of them.
        workers: processes; 1: this one.

    Yields:
        The ids of each document, in order; at most a few chunks are held.

    Raises:
        PicoLMError: a process died.
    """
    chunks = spool.chunks(_CHUNK_BYTES)
    if workers == 1:
        for chunk in chunks:
            yield from tokenizer.encode_batch(chunk.texts())
        return
    pool = ProcessPoolExecutor(
        workers,
        # A forked process would inherit the locks of threads that it does not have (PyTorch's, the tokenizer's).
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(tokenizer.to_json(), tokenizer.separator),
    )
    try:
        pending: deque[Future[tuple[Ids, list[int]]]] = deque()
        for chunk in chunks:
            pending.append(pool.submit(_encode, chunk))
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


def _finished(pending: deque[Future[tuple[Ids, list[int]]]]) -> Iterator[Ids]:
    ids, lengths = pending.popleft().result()
    yield from np.split(ids, np.cumsum(lengths)[:-1])


def _start_worker(tokenizer_json: str, separator: str) -> None:
    global _worker_tokenizer
    # The processes are the parallelism: threads within them would only get in each other's way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker_tokenizer = Tokenizer.from_json(tokenizer_json, separator)


def _encode(chunk: Chunk) -> tuple[Ids, list[int]]:
    """Ids of all documents in one array, which travels between processes as it is, and how many each has."""
    encoded = _worker_tokenizer.encode_batch(chunk.texts())
    return np.concatenate(encoded).astype(np.uint32), [len(ids) for ids in encoded]
