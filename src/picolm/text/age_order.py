"""Utterances -> a corpus in the order of age: what one child, or many, heard first comes first.

Rows are cut from the stream of documents as they lie, so utterances of one age must lie together for a row to have an
age. Which row a step draws is another matter: a plan that follows the age decides it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picolm.config.schema import Data
from picolm.errors import PicoLMError
from picolm.runs.durable import write_text
from picolm.text.document import JSON, Document
from picolm.text.reading import read_documents
from picolm.text.sources import expand

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class AgeOrder:
    """How utterances are ordered, kept and joined.

    Attributes:
        by: the field with the age, a number.
        join: how many utterances, neighbours in age, become one document; their mean age is the document's.
        drop: values of fields whose utterances are left out: `{"role": {"Target_Child"}}`.
        oldest: utterances above this age are left out; None: none are.
    """

    by: str = "age_months"
    join: int = 1
    drop: Mapping[str, frozenset[str]] | None = None
    oldest: float | None = None

    def keeps(self, document: Document, age: float) -> bool:
        """Whether an utterance stays."""
        said_by_dropped = any(str(document.metadata.get(key)) in values for key, values in (self.drop or {}).items())
        return not said_by_dropped and (self.oldest is None or age <= self.oldest)


@dataclass(frozen=True, slots=True)
class Ordered:
    """What came of it: how many utterances were written, in how many documents, and why others were not."""

    utterances: int
    documents: int
    without_age: int
    left_out: int
    youngest: float
    oldest: float


def order_by_age(
    sources: Sequence[str], out: Path, order: AgeOrder, advance: Advance = lambda phase, done, total: None
) -> Ordered:
    """Write the utterances of sources as JSONL in the order of age; equal ages stay in the order of the sources.

    Words and parts of speech (`tokens`, `upos`) are kept where every utterance of a document has them.

    Args:
        sources: of records with an age.
        out: the .jsonl file to make.
        order: by what, and what is kept.
        advance: told how far it is.

    Raises:
        PicoLMError: `out` is taken, no utterance is left, or an age is no number.
    """
    if out.suffix != ".jsonl":
        raise PicoLMError(f"{out} must end in .jsonl, as what it holds")
    if out.exists():
        raise PicoLMError(f"{out} exists and is never overwritten: choose another --out")
    kept: list[tuple[float, Document]] = []
    without_age = left_out = 0
    for source in expand(sources):
        reader = read_documents(source, Data())
        for document in reader:
            advance("reading", min(reader.bytes_read, source.size), source.size)
            age = _age(document, order.by, str(source))
            if age is None:
                without_age += 1
            elif order.keeps(document, age):
                kept.append((age, document))
            else:
                left_out += 1
    if not kept:
        raise PicoLMError(
            f"no utterance is left: {without_age} have no '{order.by}', {left_out} were left out; see --by and --drop"
        )
    kept.sort(key=lambda pair: pair[0])
    joined = [kept[start : start + order.join] for start in range(0, len(kept), order.join)]
    write_text(out, "".join(f"{json.dumps(_joined(some, order.by), ensure_ascii=False)}\n" for some in joined))
    return Ordered(len(kept), len(joined), without_age, left_out, kept[0][0], kept[-1][0])


def _age(document: Document, field: str, place: str) -> float | None:
    value = document.metadata.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PicoLMError(f"{place}: the '{field}' of {document.id} is '{value}', which is no age")
    return float(value)


def _joined(some: Sequence[tuple[float, Document]], field: str) -> dict[str, JSON]:
    documents = [document for _, document in some]
    first = documents[0]
    alike = _alike([document.metadata for document in documents])
    record: dict[str, JSON] = {
        **alike,
        "id": first.id,
        "domain": first.domain,
        "text": "\n".join(document.text for document in documents),
        field: round(sum(age for age, _ in some) / len(some), 4),
        "utterances": len(documents),
    }
    if all(document.tags for document in documents):
        record["tokens"] = [document.text[tag.start : tag.stop] for document in documents for tag in document.tags]
        record["upos"] = [tag.upos for document in documents for tag in document.tags]
    return record


def _alike(metadata: Iterable[Mapping[str, Any]]) -> dict[str, JSON]:
    """The fields that all have with one value."""
    first, *others = metadata
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
