"""What `picolm data world` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from picolm.errors import PicoLMError
from picolm.terminal.tables import print_json, print_table
from picolm.text.document import Document
from picolm.text.world import Corpus, minimal_pairs, open_corpus, write_pairs
from picolm.text.world.statistics import describe


def print_world(
    source: str, *, phenomena: bool, samples: int, pairs: int, out: Path | None, seed: int, as_json: bool
) -> None:
    """Write pairs if they are asked for; else print statistics, and what else is asked for."""
    corpus = open_corpus(source)
    if pairs or out is not None:
        if not pairs or out is None:
            raise PicoLMError("--pairs N and --out FILE go together: give both or neither")
        n_written = write_pairs(minimal_pairs(count=pairs, seed=seed, corpus=source), out)
        print_json({"pairs": n_written, "out": str(out)}) if as_json else print(f"{out}: {n_written} pairs")
        return
    described: Any = describe(corpus)
    shown = [corpus.document(index) for index in range(min(samples, corpus.n_documents))]
    if as_json:
        print_json({**described, "samples": [_sample(document) for document in shown]})
        return
    _print_counts(described)
    if phenomena:
        _print_phenomena(described["paradigms"], corpus)
    for document in shown:
        print(f"\n{document.id}: {dict(document.metadata)}\n{tagged(document)}")


def tagged(document: Document) -> str:
    """Return a document's words with their tags, a line each sentence."""
    words = [(document.text[start:stop], upos) for start, stop, upos in document.tags]
    return " ".join(f"{word}/{upos}" + ("\n" if word in ".?!" else "") for word, upos in words).replace("\n ", "\n")


def _sample(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "text": document.text,
        "metadata": dict(document.metadata),
        "tags": [list(tag) for tag in document.tags],
    }


def _print_counts(described: Any) -> None:
    print(described["source"])
    rows = [[name, *_counts(counts)] for name, counts in described["domains"].items()]
    print_table(["domain", "documents", "bytes", "words"], [*rows, ["all", *_counts(described)]])
    print(f"{described['types']:,} different words, {described['once']:,} of them once")
    print("parts of speech: " + ", ".join(f"{upos} {share:.1%}" for upos, share in described["tags"].items()))
    for upos, words in described["most_frequent"].items():
        print(f"most frequent {upos}: {', '.join(words)}")
    for title, known in (("best loss", "floor"), ("entropy of the topic, nats", "context")):
        if known in described:
            print(f"{title}: " + ", ".join(f"{name} {value:.4f}" for name, value in described[known].items()))


def _counts(counts: Any) -> list[str]:
    return [f"{counts[name]:,}" for name in ("documents", "bytes", "words")]


def _print_phenomena(paradigms: Any, corpus: Corpus) -> None:
    if not paradigms:
        print(f"{corpus.source} has no minimal pairs")
    for row in paradigms:
        print(f"\n{row['phenomenon']} / {row['paradigm']}: {row['rule']}\n  {row['good']}\n* {row['bad']}")
