"""Documents -> token ids, in this process or in several, always in the order in which they came."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from picolm.data.spool import Chunk, Spool
from picolm.data.tagging import UInt8Array, tags_of_tokens
from picolm.errors import PicoLMError
from picolm.text.tagger import Tagger
from picolm.text.tokenizer import Tokenizer

Ids = np.ndarray[Any, Any]


class Encoded(NamedTuple):
    """A document's ids, and the parts of speech of its tokens where any document has them."""

    ids: Ids
    tags: UInt8Array | None


_CHUNK_BYTES = 2**20
_CHUNKS_AHEAD_PER_WORKER = 2

_worker_tokenizer: Tokenizer
_worker_tagger: Tagger | None

_Packed = tuple[Ids, UInt8Array | None, list[int]]
"""Ids and tags of several documents end to end, and how many each has: arrays travel between processes as they are."""


def encode_all(spool: Spool, tokenizer: Tokenizer, workers: int, tagger: Tagger | None = None) -> Iterator[Encoded]:
    """Encode all texts of a spool; the result does not depend on the number of workers.

    Args:
        spool: read by the workers themselves, in chunks of about 1 MB.
        tokenizer: for all of them.
        workers: processes; 1: this one.
        tagger: tags every document, also one that came with tags; None: the tags are those that came.

    Yields:
        Each document's, in order; at most a few chunks are held.

    Raises:
        PicoLMError: a process died.
    """
    chunks = spool.chunks(_CHUNK_BYTES)
    if workers == 1:
        for chunk in chunks:
            yield from _encode(chunk, tokenizer, tagger)
        return
    pool = ProcessPoolExecutor(
        workers,
        # A forked process would inherit the locks of threads that it does not have (PyTorch's, the tokenizer's).
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(tokenizer.to_json(), tokenizer.separator, tagger),
    )
    try:
        pending: deque[Future[_Packed]] = deque()
        for chunk in chunks:
            pending.append(pool.submit(_encode_in_worker, chunk))
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


def _finished(pending: deque[Future[_Packed]]) -> Iterator[Encoded]:
    ids, tags, lengths = pending.popleft().result()
    borders = np.cumsum(lengths)[:-1]
    parts = np.split(ids, borders)
    return map(Encoded, parts, repeat(None) if tags is None else np.split(tags, borders))


def _start_worker(tokenizer_json: str, separator: str, tagger: Tagger | None) -> None:
    global _worker_tokenizer, _worker_tagger
    _worker_tagger = tagger
    # The processes are the parallelism: threads within them would only get in each other's way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker_tokenizer = Tokenizer.from_json(tokenizer_json, separator)


def _encode_in_worker(chunk: Chunk) -> _Packed:
    encoded = _encode(chunk, _worker_tokenizer, _worker_tagger)
    ids = np.concatenate([one.ids for one in encoded]).astype(np.uint32)
    tags = [one.tags for one in encoded if one.tags is not None]
    return ids, np.concatenate(tags) if tags else None, [len(one.ids) for one in encoded]


def _encode(chunk: Chunk, tokenizer: Tokenizer, tagger: Tagger | None) -> list[Encoded]:
    texts = chunk.texts()
    tags = chunk.tags() if tagger is None else tagger.tag(texts)
    if tags is None:
        return [Encoded(ids, None) for ids in tokenizer.encode_batch(texts)]
    encoded = tokenizer.encode_spans(texts)
    return [Encoded(ids, tags_of_tokens(spans, words)) for (ids, spans), words in zip(encoded, tags, strict=True)]
