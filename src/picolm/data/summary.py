"""What prepared data holds, in figures and samples."""

from __future__ import annotations

import numpy as np

from picolm.data.manifest import SPLITS
from picolm.data.permutation import KeyedPermutation
from picolm.data.prepared import TokenData
from picolm.data.split import Split
from picolm.text.document import JSON
from picolm.text.tokenizer import Tokenizer

_SAMPLE_TOKENS = 100
_COUNTED_AT_ONCE = 2**22


def summarise(data: TokenData, samples: int = 3) -> dict[str, JSON]:
    """Describe prepared data in a value that JSON can hold.

    Args:
        data: the opened directory.
        samples: how many training documents to show the beginning of; always the same ones.

    Returns:
        `directory`, `fingerprint`, `vocab_size`, `dropped_documents`; `splits`: per split and per domain `documents`,
        `tokens`, `bytes` and `bytes_per_token`, per split `vocabulary_used` (ids that occur); `samples`: id, domain and
        the text of the first 100 tokens.
    """
    tokenizer = data.tokenizer()
    return {
        "directory": str(data.directory),
        "fingerprint": data.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "dropped_documents": data.manifest.dropped_documents,
        "splits": {name: _split(data.split(name), tokenizer.vocab_size) for name in SPLITS},
        "samples": _samples(data.split("train"), tokenizer, samples),
    }


def _split(split: Split, vocab_size: int) -> dict[str, JSON]:
    used = np.zeros(vocab_size, dtype=bool)
    for start in range(0, split.n_tokens, _COUNTED_AT_ONCE):
        used[split.tokens(start, min(start + _COUNTED_AT_ONCE, split.n_tokens))] = True
    n_bytes = sum(counts.bytes for counts in split.domains.values())
    return {
        **_counts(split.n_documents, split.n_tokens, n_bytes),
        "vocabulary_used": int(used.sum()),
        "domains": {
            name: _counts(counts.documents, counts.tokens, counts.bytes) for name, counts in split.domains.items()
        },
    }


def _counts(documents: int, tokens: int, n_bytes: int) -> dict[str, JSON]:
    return {"documents": documents, "tokens": tokens, "bytes": n_bytes, "bytes_per_token": n_bytes / max(1, tokens)}


def _samples(split: Split, tokenizer: Tokenizer, samples: int) -> list[JSON]:
    if not split.n_documents:
        return []
    table = split.documents()
    order = KeyedPermutation(split.n_documents, "samples")
    shown: list[JSON] = []
    for document in order(np.arange(min(samples, split.n_documents))).tolist():
        start, stop = split.document_span(document)
        text = tokenizer.decode(split.tokens(start, min(stop, start + _SAMPLE_TOKENS)))
        shown.append({"id": table["id"][document].as_py(), "domain": table["domain"][document].as_py(), "text": text})
    return shown
