"""Files of minimal pairs: JSON lines, plain or gzipped, with two sentences each and the groups that they belong to."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from picolm.errors import PicoLMError, nearest
from picolm.randomness import generator
from picolm.text.document import JSON
from picolm.text.lines import Lines, decode
from picolm.text.reading import parse_record
from picolm.text.records import describe


@dataclass(frozen=True, slots=True)
class Fields:
    """The names under which a record holds what is asked for."""

    good: str = "sentence_good"
    bad: str = "sentence_bad"
    paradigm: str = "UID"
    term: str = "linguistics_term"
    field: str = "field"
    id: str = "pairID"
    context: str | None = None
    """What stands before both; None: nothing."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its neighbour that is wrong in one thing.

    Attributes:
        good: the sentence.
        bad: its neighbour.
        paradigm: the smallest group; empty where the file names none.
        term: a group of paradigms.
        field: a larger group.
        id: of the pair in its paradigm.
        place: file and line, for errors.
        context: what stands before both; empty: nothing.
    """

    good: str
    bad: str
    paradigm: str
    term: str
    field: str
    id: str
    place: str
    context: str = ""


def read_pairs(path: Path, fields: Fields) -> list[Pair]:
    """Read all pairs of a file.

    Raises:
        PicoLMError: it is not there, empty, damaged, not JSON lines, or a record lacks a sentence; named by line.
    """
    try:
        with path.open("rb") as file:
            pairs = list(_pairs(Lines(str(path), file, packed=path.suffix == ".gz"), fields))
    except FileNotFoundError:
        siblings = [str(other) for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise PicoLMError(f"there is no file of pairs '{path}'{_likely(str(path), siblings)}") from None
    except OSError as error:
        raise PicoLMError(f"cannot read the pairs in {path}: {error.strerror or error}") from None
    if not pairs:
        raise PicoLMError(f"{path} is empty: it has no pairs")
    return pairs


def _likely(name: str, others: Sequence[str]) -> str:
    hint = nearest(name, others)
    return hint if "did you mean" in hint else ""


def _pairs(lines: Lines, fields: Fields) -> Iterator[Pair]:
    for number, line in lines:
        if stripped := line.strip():
            place = f"{lines.name}, line {number}"
            record = parse_record(decode(lines.name, stripped, number), place)
            yield Pair(
                good=_sentence(record, fields.good, place),
                bad=_sentence(record, fields.bad, place),
                paradigm=_group(record, fields.paradigm, place),
                term=_group(record, fields.term, place),
                field=_group(record, fields.field, place),
                id=_group(record, fields.id, place) or str(number),
                place=place,
                context=_sentence(record, fields.context, place)
                if fields.context and record.get(fields.context)
                else "",
            )


def _sentence(record: Mapping[str, JSON], name: str, place: str) -> str:
    if name not in record:
        raise PicoLMError(f"{place} has no field '{name}'{nearest(name, record) or '; the record has no fields'}")
    text = record[name]
    if not isinstance(text, str):
        raise PicoLMError(f"{place} has {describe(text)} as its '{name}', which must be a string")
    if not text.strip():
        raise PicoLMError(f"{place} has an empty '{name}'")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PicoLMError(f"{place} has half of a surrogate pair (\\ud800 to \\udfff) in its '{name}'") from None
    return text


def _group(record: Mapping[str, JSON], name: str, place: str) -> str:
    value = record.get(name)
    if isinstance(value, list | dict):
        raise PicoLMError(f"{place} has {describe(value)} as its '{name}', which must be a string")
    # A slash parts the kind of a group from its name; BLiMP spells one field in two ways that differ in it.
    return "" if value is None else str(value).replace("/", "_")


def read_filter(path: Path) -> dict[str, frozenset[str]]:
    """Read a list of pairs to keep: a JSON object, plain or gzipped, of paradigms and the ids of their pairs.

    Raises:
        PicoLMError: it is not there, damaged, or something else.
    """
    try:
        content = path.read_bytes()
        value = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PicoLMError(f"cannot read the list of pairs in {path}: {reason}") from None
    if not isinstance(value, dict) or not all(isinstance(ids, list) for ids in value.values()):
        raise PicoLMError(f"{path} must hold a JSON object of paradigms, each with a list of the ids of its pairs")
    return {paradigm: frozenset(map(str, ids)) for paradigm, ids in value.items()}


def keep(pairs: Sequence[Pair], wanted: Mapping[str, frozenset[str]], path: Path) -> list[Pair]:
    """Keep the pairs that a filter lists.

    Raises:
        PicoLMError: it lists a pair that is not there, or none.
    """
    kept = [pair for pair in pairs if pair.id in wanted.get(pair.paradigm, ())]
    missing = {(name, id) for name, ids in wanted.items() for id in ids} - {(pair.paradigm, pair.id) for pair in kept}
    if missing:
        paradigm, id = min(missing)
        raise PicoLMError(f"{path} lists the pair {id} of '{paradigm}', which the file of pairs does not have")
    if not kept:
        raise PicoLMError(f"{path} lists no pair")
    return kept


def sample(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """Draw some pairs of each paradigm, keyed by its name, in the order of the file; all where there are fewer."""
    places: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        places.setdefault(pair.paradigm, []).append(place)
    chosen: list[int] = []
    for paradigm, own in places.items():
        order = generator(seed, "sample of pairs", paradigm).permutation(len(own))[:count]
        chosen += [own[number] for number in order.tolist()]
    return [pairs[place] for place in sorted(chosen)]
